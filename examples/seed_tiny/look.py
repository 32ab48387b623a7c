"""Draw a sheet of captions with a teacher that is still learning: `look.py --work W`, then see `look.png`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC
from PIL import Image, ImageDraw

from model import GUIDANCE
from teacher import Teacher, scheduler
from vocabulary import encode_texts, load_vocabulary


CAPTIONS = """a cat|a blue hamburger|a red apple|a green car|two green cats|three yellow stars|four pink rockets
a black horse|a red apple to the left of a yellow star|a blue car above a green house
a small purple fish at the top left|a big orange pizza|a flat drawing of a small red bus on the right
a 3d drawing of a big brown bear|an outlined drawing of a white cow|a penguin
a grey elephant|a yellow banana|a blue banana|a pink elephant|a house|a fire engine|a purple umbrella|a crown
a white airplane below a red balloon|two blue keys|a green guitar|a brown horse to the right of a pink pig|a sun|a tree
a red top hat|an orange octopus""".replace("\n", "|").split("|")  # fmt: skip


@torch.no_grad()
def text_features(model: Teacher, tokenizer, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the teacher reads of the texts, and of as many empty ones."""
    ids, _ = encode_texts(tokenizer, [*texts, *[""] * len(texts)])
    return model.text_encoder(input_ids=ids).last_hidden_state.split(len(texts))


@torch.no_grad()
def draw_from(unet, vae, words, silence, steps: int = 16, guidance: float = GUIDANCE, seed: int = 0):
    """`(texts, 64, 64, 3)` uint8."""
    solver = scheduler()
    solver.set_timesteps(steps)
    latents = torch.randn(len(words), 16, 8, 8, generator=torch.Generator().manual_seed(seed))
    both = torch.cat([words, silence])
    for time in solver.timesteps:
        asked, free = unet(torch.cat([latents, latents]), time, both).sample.chunk(2)
        latents = solver.step(free + guidance * (asked - free), time, latents).prev_sample
    pixels = vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)
    return (pixels * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def sheet(drawn: Sequence[np.ndarray], texts: list[str], path: Path, columns: int = 8, scale: int = 2) -> None:
    side = len(drawn[0]) * scale
    canvas = Image.new("RGB", (columns * (side + 6), -(-len(drawn) // columns) * (side + 30)), "white")
    pen = ImageDraw.Draw(canvas)
    for number, (image, text) in enumerate(zip(drawn, texts)):
        x, y = number % columns * (side + 6), number // columns * (side + 30)
        canvas.paste(Image.fromarray(image).resize((side, side)), (x, y))
        pen.rectangle((x, y, x + side, y + side), outline="lightgrey")
        pen.text((x + 2, y + side), text[:23] + "\n" + text[23:50], fill="black")
    canvas.save(path)


def load_teacher(work: Path) -> tuple[Teacher, AutoencoderDC, object, int]:
    tokenizer = load_vocabulary(work)
    model = Teacher(tokenizer).eval()
    newest = work / "unet" / "state.pt"
    path = newest if newest.exists() else work / "teacher" / "state.pt"
    state = torch.load(path, weights_only=True, map_location="cpu")
    model.load_state_dict(state["shadow"])
    return model, AutoencoderDC.from_pretrained(work / "autoencoder" / "model").eval(), tokenizer, state["step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("look.png"))
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("captions", nargs="*", default=CAPTIONS)
    arguments = parser.parse_args()
    model, vae, tokenizer, step = load_teacher(arguments.work)
    words, silence = text_features(model, tokenizer, arguments.captions)
    drawn = draw_from(model.unet, vae, words, silence, guidance=arguments.guidance)
    sheet(drawn, arguments.captions, arguments.out)
    print("step", step)


if __name__ == "__main__":
    main()
