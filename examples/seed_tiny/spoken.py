"""What the trained language model says when it is asked to draw the training texts: the codes `drawing` learns from.

`features/spoken.npz`
    captions   the distinct captions, sorted
    plain      uint16, takes x captions x 32: each caption's codes, the first take greedy, the others sampled
    described  uint16, rows x 32: the codes of every picture's full description, greedy
"""

import logging
import os

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from features import rows_of
from loop import device, stage_arguments
from model import CODEBOOK
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.modeling.processing_seed import SeedProcessor, extend_text_tokenizer
from seed_hf.pictograms.wordings import full_description


TAKES, BATCH = 4, 128


def say(model: SeedForCausalLM, processor: SeedProcessor, texts: list[str], **sampling) -> np.ndarray:
    """Codes `(texts, 32)` of a picture of each text."""
    offset, places = model.config.visual_token_offset, model.config.num_query_tokens
    # Texts of like length together: then a batch has little padding.
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    codes = np.zeros((len(texts), places), np.uint16)
    for start in tqdm(range(0, len(order), BATCH), desc="codes", mininterval=10):
        picked = order[start : start + BATCH]
        inputs = processor.draw([texts[i] for i in picked]).to(model.device)
        ids = model.generate(**inputs, generation_mode="image", **sampling)
        begin = inputs.input_ids.shape[1] + 1  # after the prompt and <img>
        codes[picked] = (ids[:, begin : begin + places] - offset).cpu().numpy()
    return codes


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv)
    work, file = arguments.work, arguments.work / "features" / "spoken.npz"
    if file.exists():
        return
    text_tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "text" / "tokenizer")
    model = SeedForCausalLM.from_pretrained(work / "language" / "model").to(device()).eval()
    model.generation_config.update(
        bos_token_id=text_tokenizer.bos_token_id,
        eos_token_id=text_tokenizer.eos_token_id,
        pad_token_id=text_tokenizer.pad_token_id,
    )
    processor = SeedProcessor(SeedImageProcessor(), extend_text_tokenizer(text_tokenizer, CODEBOOK))
    rows = rows_of(arguments.data)
    captions = sorted({row["caption"].lower() for row in rows})
    torch.manual_seed(0)
    plain = [say(model, processor, captions, do_sample=False)]
    plain += [say(model, processor, captions, do_sample=True, top_k=0) for _ in range(TAKES - 1)]
    described = say(model, processor, [full_description(row) for row in rows], do_sample=False)
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, captions=np.array(captions), plain=np.stack(plain), described=described)
    os.replace(partial, file)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
