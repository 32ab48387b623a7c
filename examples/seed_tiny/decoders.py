"""Stage II goes on with the codes fixed: what reads them learns longer, beside the language model."""

import argparse
import logging
from pathlib import Path

from loop import device
from quantization import train
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


EPOCHS = 2
READERS = ("code_decoder", "embedding_decoder", "generation_decoder")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    arguments = parser.parse_args(argv)
    out = arguments.work / "decoders"
    if (out / "model").exists():
        return
    model = SeedTokenizer.from_pretrained(arguments.work / "quantization" / "model").to(device()).eval()
    train(model, arguments, out, arguments.epochs, only=READERS)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
