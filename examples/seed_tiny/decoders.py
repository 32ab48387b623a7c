"""Stage II goes on with the codes fixed: what reads them learns longer, beside the language model."""

import logging

from loop import device, stage_arguments
from quantization import train
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


EPOCHS = 2.0
READERS = ("code_decoder", "embedding_decoder", "generation_decoder")


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, epochs=EPOCHS)
    out = arguments.work / "decoders"
    if (out / "model").exists():
        return
    model = SeedTokenizer.from_pretrained(arguments.work / "quantization" / "model").to(device()).eval()
    train(model, arguments, out, arguments.epochs, only=READERS)
    model.cpu().save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
