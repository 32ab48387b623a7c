"""Teacher stage: the UNet learns on, alone; the text encoder stays, so that stage II may train at the same time.

It mostly reads full descriptions now: those are what the generation embeddings of stage II stand for.
"""

import logging

from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from loop import stage_arguments
from teacher import BATCH, RATE, STEPS, Teacher, fit
from vocabulary import load_vocabulary


FULL = 0.9  # share of full descriptions


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, minutes=True, steps=STEPS, batch=BATCH, rate=RATE)
    out, before = arguments.work / "unet", arguments.work / "teacher"
    if (out / "model").exists():
        return
    model = Teacher(load_vocabulary(arguments.work))
    model.text_encoder = CLIPTextModel.from_pretrained(before / "text_encoder").requires_grad_(False)
    model.unet = UNet2DConditionModel.from_pretrained(before / "unet")
    fit(model, arguments, out, "unet", FULL)
    model.unet.save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
