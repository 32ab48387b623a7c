"""How many of the teacher's drawings the judge of scenes recognises, beside real images and the autoencoder's.

`measure_drawings.py --data D --work W --judge J [--count N]` draws full descriptions of the test sets. `J` is the
folder that `seed-hf evaluate judge --pictograms D --out J` wrote.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

from look import draw, load_teacher, sheet
from seed_hf.evaluation.scene_judge.judge import SceneJudge
from seed_hf.evaluation.scene_judge.measuring import shares
from seed_hf.pictograms.scene_texts import caption, full_description
from world import images, scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--guidance", type=float, default=2.5)
    parser.add_argument("--sets", nargs="+", default=["test", "test_colour", "test_pair"])
    parser.add_argument("--plain", action="store_true", help="plain captions in place of full descriptions")
    parser.add_argument("--sheet", type=Path, help="where the first drawings go")
    arguments = parser.parse_args()
    judge = SceneJudge.load(arguments.judge)
    model, vae, tokenizer, step = load_teacher(arguments.work)
    print("step", step)
    for name in arguments.sets:
        found = scenes("measuring", 2 * 10**9, arguments.count, name)
        texts = [caption(scene) if arguments.plain else full_description(scene) for scene in found]
        drawn = torch.cat(
            [
                torch.from_numpy(draw(model, vae, tokenizer, texts[i : i + 64], guidance=arguments.guidance, seed=i))
                for i in range(0, len(texts), 64)
            ]
        )
        real = images(found, arguments.data, 64).float() / 255
        with torch.no_grad():
            latents = vae.encode(real * 2 - 1).latent
            again = (vae.decode(latents).sample.clamp(-1, 1) + 1) / 2
        for kind, pixels in (("real", real), ("decoded", again), ("drawn", drawn.permute(0, 3, 1, 2) / 255)):
            seen = (pixels * 255).round().byte().permute(0, 2, 3, 1).numpy()
            print(name, kind, shares(found, judge.detect([Image.fromarray(image) for image in seen])), flush=True)
        if arguments.sheet:
            sheet(drawn[:32].numpy(), texts[:32], arguments.sheet.with_stem(f"{arguments.sheet.stem}_{name}"))


if __name__ == "__main__":
    main()
