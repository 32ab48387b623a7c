"""Stage II goes on where it is slowest: from codes to generation embeddings, with the codes as they are by now.

What an image's codes are does not change here, so the language model can learn them at the same time. The generation
decoder aims, as before, at the teacher's text features of the full description; it sees the codes of the language
model's scenes, which are computed once, those of two things twice as often.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import CLIPTextModel

from loop import autocast, device, stage_arguments, train
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from vocabulary import encode_texts, load_vocabulary
from world import descriptions, some_of, two_twice


STEPS, BATCH, RATE = 6000, 256, 3e-3


def decoder_parts(work: Path, stage: str) -> tuple[SeedTokenizer, CLIPTextModel, torch.Tensor, np.ndarray]:
    """The tokenizer of a stage, all frozen but its generation decoder; the text encoder; codes; and rows of these."""
    visual = SeedTokenizer.from_pretrained(work / stage / "model").to(device()).requires_grad_(False)
    visual.generation_decoder.requires_grad_(True)
    teacher = CLIPTextModel.from_pretrained(work / "teacher" / "text_encoder").to(device()).requires_grad_(False)
    codes = torch.from_numpy(np.load(work / "codes" / "train.npy").astype(np.int64))
    return visual, teacher, codes, two_twice(len(codes))


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, minutes=True, steps=STEPS, batch=BATCH, rate=RATE)
    work, out = arguments.work, arguments.work / "generation"
    if (out / "model").exists():
        return
    tokenizer = load_vocabulary(work)
    visual, teacher, codes, order = decoder_parts(work, "quantization")

    def batch_of(step: int) -> dict[str, torch.Tensor]:
        rows = some_of(order, arguments.batch)
        return {"codes": codes[rows], "ids": encode_texts(tokenizer, descriptions(rows))[0]}

    def loss_of(batch: dict[str, torch.Tensor], done: float) -> dict[str, torch.Tensor]:
        with autocast():
            with torch.no_grad():
                wanted = teacher(input_ids=batch["ids"]).last_hidden_state
            guess = visual.decode(batch["codes"])
        return {"loss": F.mse_loss(guess.float(), wanted.float())}

    train(visual.generation_decoder, batch_of, loss_of, out=out, steps=arguments.steps, minutes=arguments.minutes,
          learning_rate=arguments.rate, weight_decay=0.01, average=0.998)  # fmt: skip
    visual.cpu().save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
