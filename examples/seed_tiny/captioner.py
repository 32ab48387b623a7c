"""The decoder of `vision`, once more, when a run goes on from a checkpoint: it writes descriptions from embeddings.

    python examples/seed_tiny/captioner.py --data DIR --work runs/on

`vision` trains it together with the Causal Q-Former, and a checkpoint leaves it behind. Stage II asks it what codes
hold (`caption_loss_weight`). Here it learns alone, from the causal embeddings of `contrastive/model`.
"""

import logging

import torch

from features import Shards
from loop import autocast, device, stage_arguments, train
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from vision import Captioner, caption_loss
from vocabulary import encode_texts, load_vocabulary
from world import descriptions


STEPS, BATCH, RATE = 1500, 256, 3e-3


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS, rate=RATE)
    work, result = arguments.work, arguments.work / "vision" / "captioner.pt"
    if result.exists():
        return
    tokenizer, seen = load_vocabulary(work), Shards(work / "features" / "train")
    model = SeedTokenizer.from_pretrained(work / "contrastive" / "model").to(device()).eval()
    torch.manual_seed(0)
    captioner = Captioner(len(tokenizer)).to(device())

    def batch_of(step: int) -> dict[str, torch.Tensor]:
        rows = torch.randint(len(seen), (BATCH,)).tolist()
        ids, mask = encode_texts(tokenizer, descriptions(rows))
        return {"seen": seen.batch(rows), "ids": ids, "mask": mask}

    def loss_of(batch: dict[str, torch.Tensor], done: float) -> dict[str, torch.Tensor]:
        with autocast():
            with torch.no_grad():
                embeddings = model.get_causal_embeddings(vision_embeddings=batch["seen"].float())
            logits = captioner(embeddings.float(), batch["ids"][:, :-1])
        loss, words = caption_loss(logits, batch["ids"], batch["mask"])
        return {"loss": loss, "words": words}

    train(captioner, batch_of, loss_of, out=work / "captioner", steps=arguments.steps, minutes=None,
          learning_rate=arguments.rate, weight_decay=0.05, warmup=60)  # fmt: skip
    torch.save(captioner.cpu().state_dict(), result)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
