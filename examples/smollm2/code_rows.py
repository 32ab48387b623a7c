"""What SmolLM2 learns from, and where it begins: codes with captions and questions, and first rows for the codes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset

from seed_hf import SeedImageProcessor, SeedLlamaForCausalLM, SeedTokenizer
from seed_hf.data.jobs.tokenizing import tokenize_images
from seed_hf.data.sources.rows import open_rows
from seed_hf.data.sources.source import open_source
from seed_hf.files import whole_file
from seed_hf.modeling.processing_seed import plain_text_encoder


def write_lessons(data: Path, eyes: SeedTokenizer, image_processor: SeedImageProcessor, work: Path) -> Path:
    """Encode every training image once, and put its caption and its questions beside its codes.

    Args:
        data: Folder of the scenes; `train.parquet` is read.
        eyes: The visual tokenizer.
        image_processor: For it.
        work: Folder of the run; `codes/` and `lessons.parquet` are written into it.

    Returns:
        The Parquet file: `id`, `codes`, `caption` and `questions`.
    """
    out = work / "lessons.parquet"
    if out.is_file():
        return out
    source = open_source(str(data / "train.parquet"))
    tokenize_images(source, eyes, work / "codes", image_processor=image_processor, workers=0)
    codes = {row["id"]: row["codes"] for row in open_rows(str(work / "codes"), "codes")}
    rows = pq.read_table(data / "train.parquet", columns=["id", "caption", "questions", "answers"]).to_pylist()
    lessons = [
        {
            "id": row["id"],
            "codes": codes[row["id"]],
            "caption": row["caption"],
            "questions": [
                {"question": asked, "answer": answer} for asked, answer in zip(row["questions"], row["answers"])
            ],
        }
        for row in rows
        if row["id"] in codes
    ]
    with whole_file(out) as temporary:
        pq.write_table(pa.Table.from_pylist(lessons), temporary)
    return out


@torch.no_grad()
def start_at_captions(model: SeedLlamaForCausalLM, tokenizer, rows: Dataset) -> None:
    """Let each code's row begin at the words of the captions that it occurs with, and at its place in the image.

    `from_language_model` draws new rows at random. A better beginning, which costs no training step, is the sum of two
    parts of equal length: what the tokens of a code's captions have in common, less what all captions have in common;
    and random directions, one for each of the 32 places, mixed as the code is spread over the places. The rows become
    as long as those of words. Codes that do not occur keep their random row.

    Args:
        model: With new rows, which are changed in place. The embedding is tied to the output layer.
        tokenizer: The text tokenizer.
        rows: With `codes` and `caption`.
    """
    config, encode = model.config, plain_text_encoder(tokenizer)
    weight = model.get_input_embeddings().weight
    words, first = weight[: config.text_vocab_size], config.visual_token_offset
    mean, length = words.mean(0), (words - words.mean(0)).norm(dim=1).mean()
    captions = torch.stack([words[encode(f" {caption}")].mean(0) for caption in rows["caption"]])
    captions -= captions.mean(0)
    sums = torch.zeros(config.codebook_size, words.shape[1])
    counts = torch.zeros(config.codebook_size, config.num_query_tokens)
    for place, codes in enumerate(torch.tensor(rows["codes"], dtype=torch.long).T):
        sums.index_add_(0, codes, captions)
        counts[:, place] += torch.bincount(codes, minlength=config.codebook_size)
    seen = counts.sum(1) > 0
    said, spread = sums[seen], counts[seen]
    said = said / spread.sum(1, keepdim=True)
    placed = spread / spread.sum(1, keepdim=True) @ torch.randn(config.num_query_tokens, words.shape[1])
    both = said / said.norm(dim=1).mean() + placed / placed.norm(dim=1).mean()
    weight[first : first + config.codebook_size][seen] = mean + both * length / both.norm(dim=1).mean()
