"""What is measured of codes and of a language model. Everything is of scenes that no stage has seen."""

from collections.abc import Sequence

import numpy as np
import torch

from scene_features import scenes, word_tokenizer
from seed_hf.codes import distinct, perplexity
from seed_hf.evaluation.metrics.retrieval import owner_ranks, recalls, retrieval_recalls
from seed_hf.modeling.generation_seed import CodeSegment, parse_segments
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.modeling.prompts_seed import SequenceEncoder
from seed_hf.pictograms.scene_colours import COLOURS
from seed_hf.pictograms.scene_texts import caption, captions, full_description
from seed_hf.training import LanguageModelCollator


BATCH = 256
KEPT = (1, 2, 4, 8, 16, 24, 32)  # codes of an image that are kept, for what is at the beginning and at the end


def _batches(rows: Sequence):
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


@torch.no_grad()
def text_features(tokenizer: SeedTokenizer, texts: list[str]) -> torch.Tensor:
    found = []
    for some in _batches(texts):
        inputs = word_tokenizer()(some, padding=True, return_tensors="pt").to(tokenizer.device)
        found.append(tokenizer.get_text_features(inputs.input_ids, inputs.attention_mask).pooler_output)
    return torch.cat(found)


@torch.no_grad()
def code_features(tokenizer: SeedTokenizer, codes: torch.Tensor) -> torch.Tensor:
    """Image features of codes, `(images, dim)`."""
    parts = [
        tokenizer.get_image_features(codes=some.to(tokenizer.device)).pooler_output for some in codes.split(BATCH)
    ]
    return torch.cat(parts)


@torch.no_grad()
def embedding_features(tokenizer: SeedTokenizer, causal: np.ndarray) -> torch.Tensor:
    """Image features of causal embeddings, `(images, dim)`: stage I projects the last."""
    return tokenizer.vision_projection(torch.from_numpy(causal[:, -1]).float().to(tokenizer.device))


def distinct_captions(texts: Sequence[str]) -> tuple[list[str], torch.Tensor]:
    """The distinct captions, and for each image its number and that of its caption among them, `(images, 2)`."""
    number: dict[str, int] = {}
    pairs = [(image, number.setdefault(text, len(number))) for image, text in enumerate(texts)]
    return list(number), torch.tensor(pairs)


def of_codes(tokenizer: SeedTokenizer, codes: np.ndarray, causal: np.ndarray) -> dict[str, float]:
    """Figures of a tokenizer: how its codes are used, and how images and descriptions find each other."""
    found = torch.from_numpy(codes)
    captions, pairs = distinct_captions([full_description(scene) for scene in scenes("test", len(codes))])
    texts = text_features(tokenizer, captions)
    from_codes = retrieval_recalls(code_features(tokenizer, found), texts, pairs)["R@m"]
    from_embeddings = retrieval_recalls(embedding_features(tokenizer, causal), texts, pairs)["R@m"]
    counts = torch.bincount(found.flatten(), minlength=tokenizer.config.codebook_size)
    return {
        "R@m, embeddings": from_embeddings,
        "R@m, codes": from_codes,
        "R@m lost by quantising": from_embeddings - from_codes,
        "codes used": (counts > 0).sum().item(),
        "perplexity": perplexity(counts).item(),
        "different codes in an image": distinct(found).double().mean().item(),
    }


def _collator(model) -> LanguageModelCollator:
    return LanguageModelCollator(word_tokenizer(), model.config)


@torch.no_grad()
def learned_losses(model, texts: Sequence[str], codes: np.ndarray, direction: str) -> list[torch.Tensor]:
    """The loss of every learned token of each row."""
    collator, found = _collator(model), []
    rows = [{"codes": code, "caption": text, "direction": direction} for code, text in zip(codes, texts)]
    for some in _batches(rows):
        batch = {name: value.to(model.device) for name, value in collator(some).items()}
        positions = batch["loss_positions"]
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits.flatten(0, 1)[positions].float()
        labels = batch["labels"].flatten()[positions + 1]
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none").cpu()
        owner = torch.div(positions, batch["input_ids"].shape[1], rounding_mode="floor").cpu()
        found += [losses[owner == row] for row in range(len(some))]
    return found


def code_losses(model, texts: Sequence[str], codes: np.ndarray) -> torch.Tensor:
    """Loss of every code after its description, `(images, places)`, in nats."""
    # <img>, the codes, </img>, the end
    return torch.stack(learned_losses(model, texts, codes, "text_to_image"))[:, 1:-2]


def unigram_losses(train: np.ndarray, test: np.ndarray, size: int) -> torch.Tensor:
    """What a model loses that knows how often each code is at its place, and nothing else: `(places,)`, in nats."""
    places = []
    for seen, met in zip(train.T, test.T):
        counts = np.bincount(seen, minlength=size) + 1.0
        places.append(-np.log(counts / counts.sum())[met].mean())
    return torch.tensor(places)


@torch.no_grad()
def drawn(model, texts: Sequence[str], sampled: bool = False, forced: bool = True, seed: int = 0) -> list[list[int]]:
    """The ids that a model writes after each description, the prompt left out.

    Args:
        model: The language model.
        texts: To draw.
        sampled: Whether tokens are sampled, at temperature 1; else the likeliest is taken.
        forced: Whether only one whole image can be written.
        seed: Of what is sampled.
    """
    sequences, config = SequenceEncoder(word_tokenizer(), model.config), model.config
    torch.manual_seed(seed)
    found: list[list[int]] = []
    for some in _batches(texts):
        prompts = [sequences.prompt("draw", text=text) for text in some]
        width = max(map(len, prompts))
        ids = torch.tensor([[config.pad_token_id] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        written = model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_mode="image" if forced else None,
            max_new_tokens=config.num_query_tokens + (3 if forced else 16),
            num_beams=1,
            **({"do_sample": True, "top_k": 0} if sampled else {"do_sample": False}),
        )
        found += written[:, width:].tolist()
    return found


def valid_spans(model, texts: Sequence[str], sampled: bool, seed: int) -> tuple[float, list[list[int] | None]]:
    """The share of descriptions, in percent, after which a model that is free to write anything writes one whole image
    and nothing broken; and the codes, `None` where they are not whole."""
    found: list[list[int] | None] = []
    for ids in drawn(model, texts, sampled, forced=False, seed=seed):
        parsed = parse_segments(ids, model.config)
        spans = [part for part in parsed.parts if isinstance(part, CodeSegment)]
        found.append(spans[0].codes if len(spans) == 1 and not parsed.defects else None)
    return 100 * sum(codes is not None for codes in found) / len(found), found


def read_as_asked(tokenizer: SeedTokenizer, codes: Sequence[list[int] | None], texts: list[str]) -> dict[str, float]:
    """How high the description that was asked for ranks by the codes that were written: in percent of all, those that
    are no image counting as wrong."""
    whole = [row for row, of_image in enumerate(codes) if of_image is not None]
    if not whole:
        return {"drawn, first": 0.0, "drawn, of five": 0.0}
    found = torch.tensor([codes[row] for row in whole])
    candidates, pairs = distinct_captions([*(texts[row] for row in whole), *texts])
    ranks = owner_ranks(code_features(tokenizer, found), text_features(tokenizer, candidates), pairs[: len(whole)])
    first, five, _ = (share * len(whole) / len(codes) for share in recalls(ranks))
    return {"drawn, first": first, "drawn, of five": five}


@torch.no_grad()
def written_captions(model, codes: np.ndarray) -> list[str]:
    """The greedy caption of each image."""
    sequences, said = SequenceEncoder(word_tokenizer(), model.config), []
    for some in _batches(codes):
        ids = torch.tensor([sequences.prompt("caption", codes=of_image.tolist()) for of_image in some])
        options = {"generation_mode": "text", "max_new_tokens": 20, "do_sample": False, "num_beams": 1}
        written = model.generate(ids.to(model.device), attention_mask=torch.ones_like(ids).to(model.device), **options)
        said += word_tokenizer().batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
    return [" ".join(text.split()) for text in said]


def _colours(words: Sequence[str]) -> list[str]:
    return [word for word in words if word in COLOURS]


def _rest(words: Sequence[str]) -> list[str]:
    return [word for word in words if word not in COLOURS and word not in ("a", "an")]  # which go with the colour


def of_captions(said: Sequence[str]) -> dict[str, float]:
    """Captions that are right, and those of which the colours or all but the colours are right, in percent."""
    right = {"captions right": 0, "colours right": 0, "all but colours right": 0}
    for scene, text in zip(scenes("test", len(said)), said):
        wanted, given = [each.split() for each in captions(scene)], text.split()
        right["captions right"] += given in wanted
        right["colours right"] += _colours(given) in map(_colours, wanted)
        right["all but colours right"] += _rest(given) in map(_rest, wanted)
    return {name: 100 * number / len(said) for name, number in right.items()}


def with_part(codes: np.ndarray, usual: np.ndarray, kept: int, end: str) -> np.ndarray:
    """Codes of which all but the "first" or "last" `kept` are the usual ones of their place."""
    changed = np.tile(usual, (len(codes), 1))
    part = slice(0, kept) if end == "first" else slice(codes.shape[1] - kept, None)
    changed[:, part] = codes[:, part]
    return changed


def of_parts(model, tokenizer: SeedTokenizer, codes: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """What the first and the last codes of an image say alone: captions and retrieval, for each number of `KEPT`."""
    usual = np.array([np.bincount(place).argmax() for place in codes["train"].T])
    said, pairs = distinct_captions([full_description(scene) for scene in scenes("test", len(codes["test"]))])
    texts, found = text_features(tokenizer, said), {}
    for end in ("first", "last"):
        parts = [with_part(codes["test"], usual, kept, end) for kept in KEPT if kept <= len(usual)]
        right = [of_captions(written_captions(model, part))["captions right"] for part in parts]
        features = [code_features(tokenizer, torch.from_numpy(part)) for part in parts]
        found[f"captions right of the {end} codes"] = right
        found[f"R@m of the {end} codes"] = [retrieval_recalls(each, texts, pairs)["R@m"] for each in features]
    return found


def of_language_model(model, tokenizer: SeedTokenizer, codes: dict[str, np.ndarray], seed: int) -> dict:
    """Figures of a language model; lists are by place."""
    test = codes["test"]
    asked = [full_description(scene) for scene in scenes("test", len(test))]
    plain = [caption(scene) for scene in scenes("test", len(test))]
    by_place = code_losses(model, asked, test).mean(0)
    unigram = unigram_losses(codes["train"], test, tokenizer.config.codebook_size)
    of_words = torch.cat(learned_losses(model, plain, test, "image_to_text")).mean().item()
    figures = {
        "code loss": by_place.mean().item(),
        "code loss of frequencies alone": unigram.mean().item(),
        "nats known of an image": (unigram - by_place).sum().item(),
        "caption loss": of_words,
        **of_captions(written_captions(model, test)),
    }
    offset = model.config.visual_token_offset
    for how, sampled in (("greedy", False), ("sampled", True)):
        valid, free = valid_spans(model, asked, sampled, seed)
        span = slice(1, 1 + tokenizer.config.num_query_tokens)
        forced = [[token - offset for token in ids[span]] for ids in drawn(model, asked, sampled, True, seed)]
        figures[f"valid without constraint, {how}"] = valid
        for constraint, written in (("free", free), ("32 forced", forced)):
            named = read_as_asked(tokenizer, written, asked)
            figures |= {f"{name}, {how}, {constraint}": value for name, value in named.items()}
    real = read_as_asked(tokenizer, test.tolist(), asked)
    figures |= {f"{name.replace('drawn', 'real image')}": value for name, value in real.items()}
    figures |= of_parts(model, tokenizer, codes)
    return figures | {"code loss by place": by_place.tolist(), "frequency loss by place": unigram.tolist()}
