"""What the teacher draws, beside real images and the autoencoder's: is it recognised, is it like the real image?

`measure_drawings.py --data D --work W --judge J [--count N]` draws full descriptions of the test sets; and once stage
II is there, from the codes of their images, with the same noise. Once `drawing` is done, its UNet and decoder draw.
`J` is the folder that `seed-hf evaluate judge --pictograms D --out J` wrote. `alike` is the mean cosine, times 100, of
EfficientNet-Lite0's features of an image and the real one, with its 95 % interval over the scenes: table 2 of the
paper asks this of CLIP.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from look import draw_from, load_teacher, sheet, text_features
from model import GUIDANCE
from pixels import normalise
from seed_hf.evaluation.image_encoders import EfficientNetEncoder
from seed_hf.evaluation.metrics.intervals import Mean
from seed_hf.evaluation.scene_judge.judge import SceneJudge
from seed_hf.evaluation.scene_judge.measuring import shares
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.pictograms.scene_texts import caption, full_description
from world import images, scenes


def drawings(model, vae, conditions: torch.Tensor, silence: torch.Tensor, guidance: float, seed: int) -> torch.Tensor:
    """`(scenes, 3, 64, 64)` between 0 and 1; the noise of a place and a seed is always the same."""
    parts = [
        draw_from(model.unet, vae, conditions[i : i + 64], silence[i : i + 64], guidance=guidance, seed=seed + i)
        for i in range(0, len(conditions), 64)
    ]
    return torch.cat([torch.from_numpy(part) for part in parts]).permute(0, 3, 1, 2) / 255


def as_images(pixels: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(image) for image in (pixels * 255).round().byte().permute(0, 2, 3, 1).numpy()]


def alike(first: torch.Tensor, second: torch.Tensor) -> str:
    found = Mean()
    for cosine in torch.cosine_similarity(first, second).tolist():
        found.add(100 * cosine)
    low, high = found.interval
    return f"alike {found.mean:.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--sets", nargs="+", default=["test", "test_colour", "test_pair"])
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--plain", action="store_true", help="plain captions in place of full descriptions")
    parser.add_argument("--sheet", type=Path, help="where the first drawings go")
    arguments = parser.parse_args()
    judge, encoder = SceneJudge.load(arguments.judge), EfficientNetEncoder()
    model, vae, tokenizer, step = load_teacher(arguments.work)
    print("step", step)
    last = "generation"
    if (arguments.work / "drawing" / "unet").exists():
        last = "drawing"
        model.unet = UNet2DConditionModel.from_pretrained(arguments.work / last / "unet").eval()
    stage_two = arguments.work / last / "model"
    eyes = SeedTokenizer.from_pretrained(stage_two).eval() if stage_two.exists() else None
    for name in arguments.sets:
        found = scenes("measuring", 2 * 10**9, arguments.count, name)
        texts = [caption(scene) if arguments.plain else full_description(scene) for scene in found]
        words, silence = text_features(model, tokenizer, texts)
        drawn = drawings(model, vae, words, silence, arguments.guidance, arguments.seed)
        real = images(found, arguments.data, 64).float() / 255
        with torch.no_grad():
            latents = vae.encode(real * 2 - 1).latent
            kinds = {"real": real, "decoded": (vae.decode(latents).sample.clamp(-1, 1) + 1) / 2, "drawn": drawn}
            if eyes is not None:
                seen = images(found, arguments.data, eyes.config.vision_config.image_size).float() / 255
                said = torch.cat([eyes.decode(eyes.encode(normalise(part))) for part in seen.split(128)])
                kinds["drawn from codes"] = drawings(model, vae, said, silence, arguments.guidance, arguments.seed)
        shown = {kind: as_images(pixels) for kind, pixels in kinds.items()}
        features = encoder.images(shown["real"])
        for kind, found_images in shown.items():
            likeness = alike(encoder.images(found_images), features)
            print(name, kind, likeness, shares(found, judge.detect(found_images)), flush=True)
        if arguments.sheet:
            path = arguments.sheet.with_stem(f"{arguments.sheet.stem}_{name}")
            sheet([np.asarray(image) for image in shown["drawn"][:32]], texts[:32], path)


if __name__ == "__main__":
    main()
