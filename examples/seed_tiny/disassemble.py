"""The opposite of `assemble.py`: the parts of a checkpoint as folders of a run, so that stages can go on from them.

    python examples/seed_tiny/disassemble.py --work runs/on

Not in a checkpoint are the decoder of `vision` and the teacher's text encoder, without which stage II cannot go on:
`text_encoder.py` and `captioner.py` make them again. `recipe.py` skips a stage whose result is there: move what is to
be trained on.
"""

import argparse
import json
import logging
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from seed_hf import SeedImagePipeline, bundled


KEPT = ("bos_token", "eos_token", "pad_token", "model_max_length")


def words_alone(folder: Path) -> PreTrainedTokenizerFast:
    """The text tokenizer of a processor's folder, without the visual tokens that were added to it."""
    content, settings = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("tokenizer.json", "tokenizer_config.json")
    )
    words = len(content["model"]["vocab"])
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < words]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), **{name: settings[name] for name in KEPT}
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=bundled("seed-tiny", "pipeline").parent)
    parser.add_argument("--work", type=Path, required=True, help="a new folder")
    arguments = parser.parse_args(argv)
    work = arguments.work
    if work.exists() and any(work.iterdir()):
        parser.error(f"{work} is not empty.")
    pipe = SeedImagePipeline.from_pretrained(arguments.checkpoint / "pipeline")
    parts = {
        "vocabulary": words_alone(arguments.checkpoint / "model"),
        "autoencoder/model": pipe.vae,
        "teacher/scheduler": pipe.scheduler,
        "teacher/begin/unet": pipe.unet,
        "teacher/begin/empty_prompt": pipe.empty_prompt,
        "unet/model": pipe.unet,
        "drawing/unet": pipe.unet,
        "seeing/model": pipe.seed_model.visual_tokenizer.vision_model,
        "language/model": pipe.seed_model.language_model,
        # Every stage since `vision` gets the tokenizer as it is at the end: stage II has changed its Q-Former, too.
        **dict.fromkeys(
            (f"{stage}/model" for stage in ("vision", "contrastive", "quantization", "generation", "drawing")),
            pipe.seed_model.visual_tokenizer,
        ),
    }
    for name, part in parts.items():
        part.save_pretrained(work / name)
        logging.info("%s", work / name)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
