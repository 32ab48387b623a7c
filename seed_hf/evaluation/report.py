"""All figures of a SEED model on the pictograms, from one command, as JSON and as a Markdown table.

    python -m seed_hf.evaluation.report --data DIR --out outputs/evaluation.json

The JSON holds the settings, seeds, counts and fingerprints beside the figures. It is written after every section, and
a second call with the same settings and weights goes on where the first one stopped.
"""

import argparse
import hashlib
import json
import logging
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from seed_hf.artifacts.bundled import bundled
from seed_hf.devices import usable_device
from seed_hf.files import whole_file

from .captioning import evaluate_captions, normalize_text
from .codebook import codebook_use, encode_rows
from .judge import JUDGE_SEED, Judge, judge_pictures, judge_retrieval, load_or_train_judge
from .reconstruction import codes_for_captions, compare_reconstructions, draw_codes
from .report_table import markdown
from .retrieval import caption_ranks, evaluate_retrieval, recalls
from .sets import distinct_captions, open_picture, read_rows
from .vqa import evaluate_vqa


logger = logging.getLogger(__name__)
SETS = ("validation", "test_concept", "test_style")
SECTIONS = ("codebook", "retrieval", "captions", "questions", "judge", "drawing", "reconstruction")
_EXAMPLES = 24


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated and how; written into the result.

    Attributes:
        sets: Splits that every section is run on; `codebook_sets` get the section `"codebook"` in addition.
        sections: Some of `SECTIONS`.
        limit: At most so many pictures of each set, for a quick look. Fewer candidates make every figure better, so
            such figures are not comparable with any others.
        max_questions_per_topic: Bound on the questions of one kind, `None` for all.
        seed: Picture i of a set is drawn from the noise of `seed + i`, and its candidates are sampled with it. Texts,
            and the codes of a caption when there is one candidate, are greedy.
        judge_seed: The judge's own, different from any seed that the model was trained with.
        guidance_scale, num_candidates: `None` for the pipeline's own.
    """

    sets: tuple[str, ...] = SETS
    codebook_sets: tuple[str, ...] = ("train",)
    sections: tuple[str, ...] = SECTIONS
    limit: int | None = None
    max_questions_per_topic: int | None = 200
    batch_size: int = 64
    seed: int = 0
    judge_seed: int = JUDGE_SEED
    num_inference_steps: int = 25
    guidance_scale: float | None = None
    num_candidates: int | None = None

    def __post_init__(self):
        unknown = set(self.sections) - set(SECTIONS)
        if unknown or not self.sections:
            raise ValueError(f"sections must be some of {SECTIONS}, got {self.sections}.")
        for name in ("limit", "max_questions_per_topic", "batch_size", "num_inference_steps", "num_candidates"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")


class _Subject:
    """The parts of one evaluation, each loaded when a section first needs it."""

    def __init__(
        self,
        model_dir: str | Path | None,
        pipeline_dir: str | Path | None,
        data_dir: str | Path,
        settings: EvaluationSettings,
        device: str,
        cache_dir: str | Path | None,
        judge: Judge | None,
    ):
        self.model_dir, self.pipeline_dir, self.data_dir = model_dir, pipeline_dir, Path(data_dir)
        self.settings, self.device, self.cache_dir = settings, device, cache_dir
        if judge is not None:
            self.judge = judge

    @cached_property
    def model(self):
        from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration

        model = SeedForConditionalGeneration.from_pretrained(self._folder("model"), dtype=torch.float32)
        return model.to(self.device).eval()

    @cached_property
    def processor(self):
        from seed_hf.modeling.processing_seed import SeedProcessor

        return SeedProcessor.from_pretrained(self._folder("model"))

    @cached_property
    def pipeline(self):
        from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline

        parts = {"seed_model": self.model, "processor": self.processor}
        return SeedImagePipeline.from_pretrained(self._folder("pipeline"), **parts).to(self.device)

    @cached_property
    def judge(self) -> Judge:
        return load_or_train_judge(self.data_dir, self.cache_dir, seed=self.settings.judge_seed)

    @cached_property
    def _trained_captions(self) -> set[str]:
        return {normalize_text(caption) for caption in read_rows(self.data_dir, "train")["caption"]}

    def _folder(self, part: str) -> Path:
        given = self.model_dir if part == "model" else self.pipeline_dir
        return bundled("seed-tiny", part) if given is None else Path(given)

    @property
    def draws(self) -> bool:
        return bool({"judge", "drawing", "reconstruction"} & set(self.settings.sections))

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of the weights and of the data files: what the figures belong to."""
        found = {"model": weights_fingerprint(self.model)}
        if self.draws:
            found |= {name: weights_fingerprint(getattr(self.pipeline, name)) for name in ("unet", "vae")}
        for split in dict.fromkeys((*self.settings.sets, *self.settings.codebook_sets)):
            found[f"{split}.parquet"] = hashlib.sha256((self.data_dir / f"{split}.parquet").read_bytes()).hexdigest()
        return found

    # One method for each of SECTIONS: rows of a set to the figures of the section.

    def codebook(self, split: str, rows) -> dict[str, Any]:
        tokenizer = self.model.visual_tokenizer
        codes = encode_rows(tokenizer, self.processor, rows, self.settings.batch_size)
        return codebook_use(codes, tokenizer.config.codebook_size).to_dict()

    def retrieval(self, split: str, rows) -> dict[str, Any]:
        tokenizer, size = self.model.visual_tokenizer, self.settings.batch_size
        return {
            name: evaluate_retrieval(tokenizer, self.processor, rows, use_codes=use_codes, batch_size=size).to_dict()
            for name, use_codes in (("codes", True), ("embeddings", False))
        }

    def captions(self, split: str, rows) -> dict[str, Any]:
        result = evaluate_captions(self.model, self.processor, rows, self.settings.batch_size)
        shown = [i * len(rows) // _EXAMPLES for i in range(_EXAMPLES)] if len(rows) > _EXAMPLES else range(len(rows))
        examples = [{"right": rows[i]["caption"], "said": result.captions[i]} for i in shown]
        return {**result.to_dict(), "examples": examples}

    def questions(self, split: str, rows) -> dict[str, Any]:
        settings = self.settings
        limits = {"max_per_topic": settings.max_questions_per_topic, "batch_size": settings.batch_size}
        return evaluate_vqa(self.model, self.processor, rows, **limits).to_dict()

    def drawing(self, split: str, rows) -> dict[str, Any]:
        captions, _ = distinct_captions([row["caption"] for row in rows])
        settings = self.settings
        options = {"num_candidates": settings.num_candidates, "seed": settings.seed}
        codes = codes_for_captions(self.pipeline, captions, settings.batch_size, **options)
        texts = self.judge.embed_captions(captions)
        drawn = self.judge.embed_pictures(self._draw(codes))
        ranks = caption_ranks(drawn, texts, torch.arange(len(captions)))
        # A caption that a training picture has can be drawn from memory, another one cannot.
        new = torch.tensor([normalize_text(caption) not in self._trained_captions for caption in captions])
        new_first = recalls(ranks[new])[0] if new.any() else 0.0
        figures = {**_judged(ranks), "new_caption_first": new_first, "num_new_captions": int(new.sum())}
        return {**figures, "num_candidates": settings.num_candidates or self.pipeline.config.num_candidates}

    def judge_section(self, split: str, rows) -> dict[str, Any]:
        """What the judge is worth on real pictures, at their own size and at that of drawings."""
        captions = [row["caption"] for row in rows]
        small = [open_picture(row).resize(self._drawn_size(), Image.Resampling.BICUBIC) for row in rows]
        result = judge_retrieval(self.judge, self._picture_features(split, rows), captions)
        return {
            "real_caption_first": result.text_recalls[0],
            "real_caption_first_at_drawn_size": judge_pictures(self.judge, small, captions),
            "retrieval": result.to_dict(),
        }

    def reconstruction(self, split: str, rows) -> dict[str, Any]:
        codes = encode_rows(self.model.visual_tokenizer, self.processor, rows, self.settings.batch_size)
        features = self._picture_features(split, rows)
        captions = [row["caption"] for row in rows]
        return compare_reconstructions(self.judge, features, self._draw(codes), captions).to_dict()

    def _draw(self, codes: torch.Tensor) -> list[Image.Image]:
        settings = self.settings
        drawing = {"num_inference_steps": settings.num_inference_steps, "guidance_scale": settings.guidance_scale}
        return draw_codes(self.pipeline, codes, seed=settings.seed, batch_size=settings.batch_size, **drawing)

    def _picture_features(self, split: str, rows) -> torch.Tensor:
        """Reference features of the real pictures; those of a whole set come from the cache folder."""
        references = self.judge.references
        if self.settings.limit is None:
            return references.split(self.data_dir, split)
        return references.pictures([open_picture(row) for row in rows])

    def _drawn_size(self) -> tuple[int, int]:
        size = self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor
        return size, size


def evaluate(
    model_dir: str | Path | None,
    pipeline_dir: str | Path | None,
    data_dir: str | Path,
    out_json: str | Path,
    settings: EvaluationSettings | None = None,
    *,
    cache_dir: str | Path | None = None,
    device: str | None = None,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Run every section on every set; write `out_json` and, beside it, a Markdown file of the same name.

    Args:
        model_dir: Folder of a [`SeedForConditionalGeneration`] and its processor; `None` for the bundled seed-tiny.
        pipeline_dir: Folder of a [`SeedImagePipeline`]; its diffusion part is used with the model of `model_dir`.
        data_dir: The pictograms.
        out_json: Result. If it is there already, with the same settings, weights and data, finished sections are kept.
        cache_dir: Where the judge and its picture features are kept, see [`load_or_train_judge`].
        device: Defaults to CUDA if there is one. Everything runs in fp32.
        judge: A judge that is at hand already; by default that of `settings.judge_seed`.

    Returns:
        What was written: `settings`, `fingerprints`, `environment`, `sets` (split, then section, then figures; all
        shares in percent), `floor` and `seconds`.
    """
    settings = settings or EvaluationSettings()
    device = str(usable_device(device))
    subject = _Subject(model_dir, pipeline_dir, data_dir, settings, device, cache_dir, judge)
    out = Path(out_json)
    out.parent.mkdir(parents=True, exist_ok=True)
    identity = {"settings": json.loads(json.dumps(asdict(settings))), "fingerprints": subject.fingerprints()}
    result = _resume(out, identity) or {**identity, "environment": _environment(device), "sets": {}, "seconds": {}}
    for split in dict.fromkeys((*settings.sets, *settings.codebook_sets)):
        rows = read_rows(data_dir, split, settings.limit)
        done = result["sets"].setdefault(split, {})
        done["counts"] = {"pictures": len(rows), "captions": len(set(rows["caption"]))}
        for section in SECTIONS:
            wanted = split in settings.sets or section == "codebook"
            if section not in settings.sections or section in done or not wanted:
                continue
            logger.info("%s: %s, %d pictures", split, section, len(rows))
            begin = time.monotonic()
            run = subject.judge_section if section == "judge" else getattr(subject, section)
            done[section] = run(split, rows)
            result["seconds"][f"{split}.{section}"] = round(time.monotonic() - begin, 1)
            _write(out, json.dumps(result, indent=1, ensure_ascii=False))
    result["floor"] = None if settings.limit else floor(result["sets"])
    _write(out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    _write(out.with_suffix(".md"), markdown(result))
    return result


# What a released seed-tiny has to reach: set, section, path to the figure, at least.
FLOOR = (
    ("validation", "retrieval", ("codes", "R@m"), 55.0),
    ("test_concept", "retrieval", ("codes", "R@m"), 20.0),
    ("train", "codebook", ("usage",), 60.0),
    ("validation", "captions", ("exact_match",), 30.0),
    ("validation", "drawing", ("caption_first",), 25.0),
)


def floor(sets: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The floor's figures among the results, what they have to be and whether they are."""
    lines = []
    for split, section, path, least in FLOOR:
        value: Any = sets.get(split, {}).get(section)
        if value is None:
            continue
        for key in path:
            value = value[key]
        figure = f"{split}: {section} {' '.join(path)}"
        lines.append({"figure": figure, "reached": value, "at_least": least, "holds": value >= least})
    return lines


def weights_fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 over names and values of all parameters and buffers, whatever files they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _judged(ranks: torch.Tensor) -> dict[str, Any]:
    first, five, ten = recalls(ranks)
    return {"caption_first": first, "caption_in_5": five, "caption_in_10": ten, "num_images": len(ranks)}


def _resume(path: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        found = {}
    if all(found.get(name) == value for name, value in identity.items()):
        logger.info("going on with %s", path)
        return found
    logger.warning("%s is of other settings, weights or data: it will be replaced", path)
    return None


def _write(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _environment(device: str) -> dict[str, str]:
    import diffusers
    import transformers

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return {
        "device": f"{device} ({name})",
        "dtype": "float32",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "diffusers": diffusers.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of [`evaluate`]."""
    plain = EvaluationSettings()
    parser = argparse.ArgumentParser(prog="python -m seed_hf.evaluation.report", description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="folder of the model and its processor (default: seed-tiny)")
    parser.add_argument("--pipeline", type=Path, help="folder of the pipeline (default: seed-tiny)")
    parser.add_argument("--data", type=Path, required=True, help="folder with the pictogram Parquet files")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; the table goes beside it as .md")
    parser.add_argument("--cache", type=Path, help="folder for the judge and its picture features")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument("--sets", nargs="+", default=plain.sets)
    parser.add_argument("--codebook-sets", nargs="*", default=plain.codebook_sets)
    parser.add_argument("--sections", nargs="+", default=plain.sections, choices=SECTIONS)
    parser.add_argument("--limit", type=int, help="at most so many pictures of each set: quick, not comparable")
    parser.add_argument("--max-questions-per-topic", type=int, default=plain.max_questions_per_topic)
    parser.add_argument("--batch-size", type=int, default=plain.batch_size)
    parser.add_argument("--seed", type=int, default=plain.seed)
    parser.add_argument("--judge-seed", type=int, default=plain.judge_seed)
    parser.add_argument("--num-inference-steps", type=int, default=plain.num_inference_steps)
    parser.add_argument("--guidance-scale", type=float, help="default: the pipeline's own")
    parser.add_argument("--num-candidates", type=int, help="rows of codes to choose from; default: the pipeline's own")
    given = vars(parser.parse_args(argv))
    values = {field.name: given[field.name] for field in fields(EvaluationSettings)}
    settings = EvaluationSettings(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    result = evaluate(
        given["model"], given["pipeline"], given["data"], given["out"], settings,
        cache_dir=given["cache"], device=given["device"],
    )  # fmt: skip
    print(markdown(result))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
