"""Fine-tunes a SEED model with LoRA on a folder of your own images and captions, and measures the effect.

    python make_pictures.py --out pictures            # or a folder of yours, with metadata.jsonl or metadata.csv
    python fine_tune.py pictures --out tuned

`tuned/model` is the finished model, which loads wherever a SEED model does; `tuned/adapter` is the LoRA adapter alone.
Some images are held out; `tuned/results.json` has the results on them, before and after training.
The same command continues an interrupted run.
"""

import argparse
import hashlib
import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments, set_seed

from seed_hf import SeedForConditionalGeneration, SeedProcessor, bundled
from seed_hf.data.jobs.tokenizing import tokenize_images
from seed_hf.data.sources.rows import open_rows
from seed_hf.data.sources.source import open_source
from seed_hf.devices import usable_device
from seed_hf.evaluation.likelihoods import caption_likelihoods
from seed_hf.evaluation.metrics.caption_words import normalize_text
from seed_hf.files import whole_folder, write_text
from seed_hf.modeling.processing_seed import plain_text_encoder
from seed_hf.texts import generate_texts
from seed_hf.training import LanguageModelCollator, LanguageModelConfig, LanguageModelTrainer
from seed_hf.training.trainer import last_complete_checkpoint


logger = logging.getLogger("fine_tune")
FEWEST = {"train": 8, "held out": 4}  # images; fewer are too few to train or to measure


@dataclass
class Settings:
    """The settings of a run. An interrupted run continues only with the same settings."""

    pictures: str
    model: str = str(bundled("seed-tiny", "model"))
    trainer: str = "seed"
    caption_column: str | None = None
    held_out: float = 0.2
    epochs: float = 20
    batch_size: int = 16
    learning_rate: float = 1e-3
    rank: int = 16
    seed: int = 0

    def __post_init__(self):
        if self.trainer not in TRAINERS:
            raise ValueError(f"trainer must be one of {', '.join(TRAINERS)}, got {self.trainer!r}.")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be a fraction between 0 and 1, got {self.held_out}.")
        for name in ("epochs", "batch_size", "learning_rate", "rank"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0, got {getattr(self, name)}.")


def fine_tune(settings: Settings, out: Path) -> dict:
    """The whole run, from a folder of images to `out/model`, `out/adapter` and `out/results.json`.

    Returns:
        The results: `before` and `after` (see `measure`), the numbers of images (`pictures`) and the captions.

    Raises:
        ValueError, FileNotFoundError: There are no images with captions, too few of them, or `out` was begun with
            other settings or images. Nothing is trained then.
    """
    out = Path(out)
    source = open_source(settings.pictures, caption_column=settings.caption_column)
    images = source.identity()
    check_begun(out, settings, images)
    if (out / "results.json").exists():
        logger.info("%s is finished already.", out)
        return json.loads((out / "results.json").read_text(encoding="utf-8"))
    set_seed(settings.seed)
    try:
        model = SeedForConditionalGeneration.from_pretrained(settings.model).eval()
    except OSError as error:
        raise ValueError(f"--model {settings.model}: no SEED model is there. {error}") from error
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "settings.json", {**asdict(settings), "images": images})
    model.to(usable_device())
    processor = SeedProcessor.from_pretrained(settings.model)
    # Each image is encoded once: the language model only sees its 32 codes.
    tokenize_images(
        source, model.visual_tokenizer, out / "codes", image_processor=processor.image_processor, workers=0
    )
    train, held_out = split(read_codes(out / "codes"), settings.held_out)
    before, said_before = measure(model, processor, train, held_out)
    write_json(out / "split.json", {"train": [r["id"] for r in train], "held_out": [r["id"] for r in held_out]})

    trainer = TRAINERS[settings.trainer](model, processor, train, settings, str(out / "training"))
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(out / "training"))
    adapted = trainer.accelerator.unwrap_model(trainer.model).eval()
    save(out / "adapter", lambda folder: adapted.save_pretrained(folder, save_embedding_layers=False))
    model = adapted.merge_and_unload()
    save(out / "model", lambda folder: (model.save_pretrained(folder), processor.save_pretrained(folder)))

    after, said_after = measure(model, processor, train, held_out)
    known = {row["caption"] for row in train}
    results = {
        "before": before,
        "after": after,
        "pictures": {
            "trained_on": len(train),
            "held_out": len(held_out),
            "held_out_with_a_caption_never_trained_on": sum(row["caption"] not in known for row in held_out),
            "distinct_held_out_captions": len({row["caption"] for row in held_out}),
        },
        "captions": [
            {"id": row["id"], "caption": row["caption"], "before": old, "after": new}
            for row, old, new in zip(held_out, said_before, said_after)
        ],
    }
    write_json(out / "results.json", results)
    return results


# ---- images ----


def read_codes(folder: Path) -> list[dict]:
    """The pre-tokenized rows: `id`, `caption` and `codes`. Of several captions, the first is used to measure."""
    rows = open_rows(str(folder), "codes").to_list()
    return [{**row, "caption": row["captions"][0]} if "captions" in row else row for row in rows]


def split(rows: list[dict], share: float) -> tuple[list[dict], list[dict]]:
    """The rows to train on, and a `share` of all rows that is held out.

    The hashes of the ids decide, so the split does not depend on the order. Images with the same codes as a held-out
    one are not trained on: to the language model they are the same.

    Raises:
        ValueError: There are too few images.
    """
    shuffled = sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    held_out = shuffled[: round(share * len(rows))]
    known = {tuple(row["codes"]) for row in held_out}
    train = [row for row in shuffled[len(held_out) :] if tuple(row["codes"]) not in known]
    for name, part in (("train", train), ("held out", held_out)):
        if len(part) < FEWEST[name]:
            raise ValueError(
                f"Of {len(rows)} images with captions, {len(part)} are {name}; at least {FEWEST[name]} are needed. "
                "Add images, or change --held-out."
            )
    return train, held_out


# ---- training ----


def with_seed_trainer(model, processor, rows, settings: Settings, folder: str) -> Trainer:
    """The trainer of this package. It adds LoRA itself, and logs the losses of captions and codes separately."""
    args = LanguageModelConfig(
        folder, lora_r=settings.rank, lora_alpha=2 * settings.rank, lora_token_ids=tokens_of(rows, processor),
        **arguments(settings),
    )  # fmt: skip
    return LanguageModelTrainer(
        model, args, data_collator=collator_for(model, processor, settings), train_dataset=rows
    )


def with_plain_trainer(model, processor, rows, settings: Settings, folder: str) -> Trainer:
    """The same with transformers and peft alone: the model computes its loss from `labels`."""
    # An output layer that is tied to the embedding has the same rows; another has its own.
    layers = ["embed_tokens"] if model.language_model.config.tie_word_embeddings else ["embed_tokens", "lm_head"]
    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank,
        lora_dropout=0.05,
        target_modules=rf"language_model\..*\.({'|'.join(model.language_model.family.linear_layers)})",
        trainable_token_indices=dict.fromkeys(layers, tokens_of(rows, processor)),
    )
    args = TrainingArguments(folder, remove_unused_columns=False, lr_scheduler_type="cosine", **arguments(settings))
    collate = collator_for(model, processor, settings)

    def batch(rows: list[dict]) -> dict[str, torch.Tensor]:
        made = collate(rows)  # its other tensors are for the seed trainer
        return {name: made[name] for name in ("input_ids", "attention_mask", "labels")}

    return Trainer(get_peft_model(model, lora), args, data_collator=batch, train_dataset=rows)


TRAINERS = {"seed": with_seed_trainer, "plain": with_plain_trainer}


def arguments(settings: Settings) -> dict:
    """Arguments of both trainers."""
    return {
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "warmup_steps": 0.03,
        "logging_steps": 20,
        "save_steps": 50,
        "save_total_limit": 2,
        "seed": settings.seed,
        "report_to": "none",
    }


def collator_for(model, processor, settings: Settings) -> LanguageModelCollator:
    """Rows to sequences: the codes, "a photo of" and the caption, which alone is learned."""
    return LanguageModelCollator(
        processor.tokenizer,
        model.config.text_config,
        directions={"image_to_text": 1.0},  # {"image_to_text": 0.5, "text_to_image": 0.5} trains drawing too
        caption_prompt=processor.caption_prompt,
        seed=settings.seed,
    )


def tokens_of(rows: list[dict], processor) -> list[int]:
    """The tokens of the captions. Their rows of the vocabulary are trained too: the base model has learned that words
    which no caption had are never right, and LoRA in the blocks alone does not change that."""
    encode = plain_text_encoder(processor.tokenizer)
    return sorted(
        {token for row in rows for text in row.get("captions") or [row["caption"]] for token in encode(f" {text}")}
    )


# ---- measuring ----


def measure(model, processor, train: list[dict], held_out: list[dict]) -> tuple[dict[str, float], list[str]]:
    """How well the model captions held-out images, and its captions.

    - `exact_match`: percentage of greedy captions that are right word for word. A model that does not know the wording
      yet has 0.
    - `exact_match_new_captions`: the same for images whose caption no training image has.
    - `choice_accuracy`: percentage of images whose own caption is the most likely one of all held-out captions. It is
      fair to a model that does not know the wording. `choice_blind` is what guessing gives.
    - `caption_loss`: of the right captions, in nats per token.
    """
    codes = torch.tensor([row["codes"] for row in held_out])
    references = [row["caption"] for row in held_out]
    captions = []
    for some in codes.split(64):
        captions += generate_texts(model, processor, processor.caption(codes=some))
    right = [normalize_text(said) == normalize_text(text) for said, text in zip(captions, references)]
    trained = {row["caption"] for row in train}
    new = [hit for hit, caption in zip(right, references) if caption not in trained]
    candidates = list(dict.fromkeys(references))
    own = torch.tensor([candidates.index(caption) for caption in references])
    scores, lengths = caption_likelihoods(model, processor, codes, candidates)
    own_scores = scores.gather(1, own[:, None])
    chosen = (scores >= own_scores).sum(1) == 1  # a tie counts against the model
    measured = {"exact_match": 100 * sum(right) / len(right)}
    if new:
        measured["exact_match_new_captions"] = 100 * sum(new) / len(new)
    measured["choice_accuracy"] = 100 * chosen.double().mean().item()
    measured["choice_blind"] = 100 / len(candidates)
    measured["caption_loss"] = -own_scores.sum().item() / lengths[own].sum().item()
    return measured, captions


def table(results: dict) -> str:
    """Before and after, side by side."""
    counts = results["pictures"]
    lines = [f"{'on ' + str(counts['held_out']) + ' held-out images':28}{'before':>8}{'after':>8}"]
    lines += [f"{name:28}{value:8.2f}{results['after'][name]:8.2f}" for name, value in results["before"].items()]
    return "\n".join(lines)


# ---- files ----


def check_begun(out: Path, settings: Settings, images: dict) -> None:
    """Accept a new folder, or one that was begun with the same settings and images."""
    file, given = out / "settings.json", asdict(settings)
    if file.exists():
        begun = json.loads(file.read_text(encoding="utf-8"))
        if others := [name for name in given if begun.get(name) != given[name]]:
            raise ValueError(
                f"{out} was begun with {', '.join(f'{name}={begun.get(name)!r}' for name in others)}. "
                "Give the same settings to continue, or a new folder."
            )
        if begun.get("images", images) != images:
            raise ValueError(f"{out} was begun with other images in {settings.pictures}. Give a new folder.")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty and holds no run to continue, or it is a file. Give a new folder.")


def save(folder: Path, write) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with whole_folder(folder) as new:
        write(new)


def write_json(file: Path, value) -> None:
    write_text(file, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def publish(out: Path, settings: Settings, results: dict, repo_id: str | None = None, dry_run: bool = False):
    """Write the cards of model and adapter, and push the finished model if there is a `repo_id`.

    Returns:
        What `seed_hf.hub.push` returns, or `None`.
    """
    from seed_hf import hub
    from seed_hf.hub.facts import Facts, write_facts

    out = Path(out)
    shown = {
        "exact_match": "caption exactly right, %",
        "exact_match_new_captions": "the same where no training image has the caption, %",
        "choice_accuracy": "its caption is the most likely of the set, %",
        "choice_blind": "the same by guessing, %",
        "caption_loss": "loss of the right caption, nats per token",
    }
    figures = {
        f"{shown[name]}: {when}": results[when][name] for name in results["before"] for when in ("before", "after")
    }
    # A card names the data and the model, but no paths of this machine.
    local = Path(settings.model).is_dir()
    names = {"pictures": Path(settings.pictures).name, "model": settings.model}
    if local:
        names["model"] = "seed-tiny" if settings.model == Settings.model else Path(settings.model).name
    training = {"stage": "language model, LoRA", **asdict(settings), **names, **results["pictures"]}
    facts = Facts(
        summary=f"A SEED model that captions images, fine-tuned by LoRA from {names['model']} on "
        f"{results['pictures']['trained_on']} images ({names['pictures']}). The results are those on "
        f"{results['pictures']['held_out']} other images, before and after.",
        limits="It was tuned to these images and their wording alone. On other images, and in drawing, it may have "
        "become worse, which was not measured.",
    )
    options = {"training": training, "results": figures, "base_model": None if local else settings.model}
    for name in ("model", "adapter"):
        if not (out / name / "train_config.json").exists():  # else the card may have been edited
            write_facts(facts, out / name)  # for the next card, too
            hub.write_card(out / name, **options)
    return hub.push(out / "model", repo_id, dry_run=dry_run) if repo_id else None


def main(argv: list[str] | None = None) -> None:
    defaults = Settings("")
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("pictures", help="folder of images with metadata.jsonl or metadata.csv, Parquet, WebDataset tars, ...")
    add("--out", type=Path, required=True, help="folder of this run")
    add("--model", default=defaults.model, help="folder or Hub id of the SEED model to start from")
    add("--trainer", choices=list(TRAINERS), default=defaults.trainer, help="of this package, or of transformers")
    add("--caption-column", help="if it has none of the usual names")
    add("--held-out", type=float, default=defaults.held_out, help="fraction of the images that is held out")
    add("--epochs", type=float, default=defaults.epochs, help="passes over the images")
    add("--batch-size", type=int, default=defaults.batch_size, help="images a step")
    add("--learning-rate", type=float, default=defaults.learning_rate, help="peak")
    add("--rank", type=int, default=defaults.rank, help="of LoRA")
    add("--seed", type=int, default=defaults.seed, help="of all random choices")
    add("--threads", type=int, default=1, help="CPU threads; with one, a run is reproducible")
    add("--push", metavar="REPO_ID", help="publish the finished model on the Hub (private)")
    given = vars(parser.parse_args(argv))
    out, push, threads = given.pop("out"), given.pop("push"), given.pop("threads")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(threads)
    try:
        settings = Settings(**given)
        results = fine_tune(settings, out)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    print(table(results))
    publish(out, settings, results, push)
    print(f"Saved: {out / 'model'}, {out / 'adapter'}, {out / 'results.json'}")


if __name__ == "__main__":
    main()
