"""A text encoder for a UNet whose own was not kept: what comes before `teacher`, when a run goes on from a checkpoint.

    python examples/seed_tiny/text_encoder.py --data DIR --work runs/on

A checkpoint has no text encoder, only what stage II learned of its features. So a new one learns to say of a scene's
full description what the codes of that scene's image become, and of no text what the pipeline has for it. That is a
beginning: the codes know less than the text. `teacher` then trains it together with the UNet.
"""

import logging

import numpy as np
import torch
from torch.nn import functional as F

from loop import autocast, device, stage_arguments, train
from seed_hf import SeedTokenizer
from seed_hf.pipelines.empty_prompt import EmptyPromptEmbedding
from teacher import Teacher
from vocabulary import encode_texts, load_vocabulary
from world import descriptions


STEPS, BATCH, RATE = 600, 256, 3e-3


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS, rate=RATE)
    work, out = arguments.work, arguments.work / "text_encoder"
    begin = work / "teacher" / "begin" / "text_encoder"
    if begin.exists():
        return
    tokenizer = load_vocabulary(work)
    visual = SeedTokenizer.from_pretrained(work / "generation" / "model").to(device()).eval()
    nothing = EmptyPromptEmbedding.from_pretrained(work / "teacher" / "begin" / "empty_prompt").to(device())
    codes = torch.from_numpy(np.load(work / "codes" / "train.npy").astype(np.int64))
    silent, _ = encode_texts(tokenizer, [""])
    torch.manual_seed(0)
    encoder = Teacher(tokenizer).text_encoder.to(device())

    def batch_of(step: int) -> dict[str, torch.Tensor]:
        rows = torch.randint(len(codes), (BATCH,))
        said = descriptions(rows.tolist())
        return {"codes": codes[rows], "ids": torch.cat([encode_texts(tokenizer, said)[0], silent])}

    def loss_of(batch: dict[str, torch.Tensor], done: float) -> dict[str, torch.Tensor]:
        with torch.no_grad(), autocast():
            wanted = torch.cat([visual.decode(batch["codes"]).float(), nothing(1).float()])
        with autocast():
            guess = encoder(input_ids=batch["ids"]).last_hidden_state
        each = F.mse_loss(guess.float(), wanted, reduction="none").mean((1, 2))
        return {"loss": each[:-1].mean() + 0.1 * each[-1], "silent": each[-1]}

    train(encoder, batch_of, loss_of, out=out, steps=arguments.steps, minutes=None, learning_rate=arguments.rate,
          weight_decay=0.01, average=0.99)  # fmt: skip
    encoder.cpu().save_pretrained(begin)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
