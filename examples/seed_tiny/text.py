"""Teacher stage: the vocabulary that all parts share, and two text encoders that learn MiniLM's sentence vectors.

`tokenizer/`     a lower-casing byte-level BPE, learned from the training captions, descriptions and questions
`text_encoder/`  a small CLIP text model: the space in which the diffusion model is conditioned and stage II aims
`text_tower/`    the text path of the Q-Former, from which stage I starts, as BLIP-2's does in the paper
"""

import json
import logging
import os

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from torch.nn import functional as F
from transformers import Blip2QFormerModel, CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast
from transformers.models.blip_2.modeling_blip_2 import Blip2TextEmbeddings

from features import rows_of, sentence_vectors, training_texts
from loop import autocast, device, stage_arguments, train
from model import TEXT_LENGTH, WIDTH, tokenizer_config
from seed_hf.evaluation.reference_models import MINILM_DIM
from seed_hf.pictograms.questions import questions
from seed_hf.pictograms.wordings import caption_variants


VOCABULARY = 4096
STEPS, BATCH, RATE = 1000, 128, 1e-3
PROMPTS = ["Generate an image", "a photo of", "Question: Short answer.", "<image>"]


def learn_vocabulary(rows: list[dict]) -> PreTrainedTokenizerFast:
    texts = [text for row in rows for text in (row["rich_caption"], " ".join(row["keywords"]), *caption_variants(row))]
    texts += [part for row in rows for pair in questions(row) for part in pair] + PROMPTS * 100
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Every text with and without a leading space: words stand at the start of captions and inside sentences.
    tokenizer.train_from_iterator([t for text in texts for t in (text, " " + text)], trainer)
    begin, end = (("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>")))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[begin, end])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=256
    )


def encode_texts(tokenizer, texts: list[str], length: int = TEXT_LENGTH) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask), both `(texts, length)`: `<s>`, the text, `</s>`, padding."""
    ids = torch.full((len(texts), length), tokenizer.pad_token_id)
    mask = torch.zeros(len(texts), length, dtype=torch.long)
    for row, found in enumerate(tokenizer(texts, add_special_tokens=False).input_ids):
        found = [tokenizer.bos_token_id, *found[: length - 2], tokenizer.eos_token_id]
        ids[row, : len(found)] = torch.tensor(found)
        mask[row, : len(found)] = 1
    return ids, mask


def text_encoder_config(tokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=6,
        max_position_embeddings=TEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        projection_dim=WIDTH,
    )


class TextTower(nn.Module):
    """The text path of the Q-Former, under the names that it has in `SeedTokenizer`."""

    def __init__(self, vocabulary: int):
        super().__init__()
        config = tokenizer_config(vocabulary).qformer_config
        self.text_embeddings = Blip2TextEmbeddings(config)
        nn.init.normal_(self.text_embeddings.word_embeddings.weight, std=0.02)
        nn.init.normal_(self.text_embeddings.position_embeddings.weight, std=0.02)
        self.qformer = Blip2QFormerModel._from_config(config)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.qformer(self.text_embeddings(ids), query_length=0, attention_mask=mask).last_hidden_state


class Pupil(nn.Module):
    """Both encoders and the heads of their lessons: MiniLM's vector of the text, and the tokens themselves."""

    def __init__(self, tokenizer):
        super().__init__()
        self.encoder = CLIPTextModel(text_encoder_config(tokenizer))
        self.tower = TextTower(len(tokenizer))
        self.encoder_head = nn.Linear(WIDTH, MINILM_DIM)
        self.tower_head = nn.Linear(WIDTH, MINILM_DIM)
        self.token_head = nn.Linear(WIDTH, len(tokenizer))


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS)
    out = arguments.work / "text"
    if (out / "done").exists():
        return
    rows = rows_of(arguments.data)
    tokenizer = learn_vocabulary(rows)
    tokenizer.save_pretrained(out / "tokenizer")
    short, long = training_texts(rows)
    texts = short + long
    logging.info("%d short and %d long texts, vocabulary %d", len(short), len(long), len(tokenizer))

    torch.manual_seed(0)
    where = device()
    sentences = sentence_vectors(arguments.work, texts).to(where)
    ids, mask = (values.to(where) for values in encode_texts(tokenizer, texts))
    pupil = Pupil(tokenizer).to(where)

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        half = (BATCH // 2,)
        picked = torch.cat([torch.randint(top, half, device=where) for top in (len(short), len(texts))])
        words, seen, target = ids[picked], mask[picked], sentences[picked]
        end = (seen.sum(1) - 1)[:, None, None].expand(-1, 1, WIDTH)
        with autocast():
            hidden = pupil.encoder(input_ids=words).last_hidden_state
            pooled = pupil.encoder_head(hidden.gather(1, end)[:, 0]).float()
            again = pupil.token_head(hidden).float()
            first = pupil.tower_head(pupil.tower(words, seen)[:, 0]).float()
        encoder = 1 - F.cosine_similarity(pooled, target).mean()
        tower = 1 - F.cosine_similarity(first, target).mean()
        tokens = F.cross_entropy(again.flatten(0, 1), words.where(seen.bool(), -100).flatten())
        return {"loss": encoder + tower + 0.1 * tokens, "encoder": encoder, "tower": tower, "tokens": tokens}

    train(pupil, loss_of, out=out, steps=arguments.steps, learning_rate=RATE, weight_decay=0.01, muon=True)
    pupil.encoder.save_pretrained(out / "text_encoder")
    (out / "text_tower").mkdir(exist_ok=True)
    save_file(pupil.tower.state_dict(), out / "text_tower" / "model.safetensors")
    (out / "done.partial").write_text(json.dumps({"texts": len(texts)}))
    os.replace(out / "done.partial", out / "done")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
