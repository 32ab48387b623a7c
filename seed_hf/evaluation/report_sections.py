"""The sections of the report: each turns the rows of one set into figures."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from seed_hf.artifacts.fingerprints import weights_fingerprint
from seed_hf.artifacts.loading import load_model, load_pipeline

from .captioning import evaluate_captions, normalize_text
from .codebook import codebook_use, encode_rows
from .judge import Judge, judge_pictures, judge_retrieval, load_or_train_judge
from .reconstruction import codes_for_captions, compare_reconstructions, draw_codes
from .report_settings import EvaluationSettings
from .retrieval import caption_ranks, evaluate_retrieval, recalls
from .sets import distinct_captions, open_picture, read_rows
from .vqa import evaluate_vqa


_EXAMPLES = 24


class ReportSections:
    """The model, the pipeline and the judge of one report, each loaded when a section first needs it.

    One method for each of `SECTIONS`, `<section>_figures`: from a split and its rows to the figures of the section.
    Arguments as in [`evaluate`].
    """

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
    def _model_and_processor(self):
        return load_model(self.model_dir, device=self.device, dtype=torch.float32)

    @property
    def model(self):
        return self._model_and_processor[0]

    @property
    def processor(self):
        return self._model_and_processor[1]

    @cached_property
    def pipeline(self):
        parts = {"seed_model": self.model, "processor": self.processor}
        return load_pipeline(self.pipeline_dir, device=self.device, dtype=torch.float32, **parts)

    @cached_property
    def judge(self) -> Judge:
        return load_or_train_judge(self.data_dir, self.cache_dir, seed=self.settings.judge_seed)

    @cached_property
    def _trained_captions(self) -> set[str]:
        return {normalize_text(caption) for caption in read_rows(self.data_dir, "train")["caption"]}

    @property
    def draws(self) -> bool:
        return bool({"judge", "drawing", "reconstruction"} & set(self.settings.sections))

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of the weights and of the data files that the figures belong to."""
        found = {"model": weights_fingerprint(self.model)}
        if self.draws:
            found |= {name: weights_fingerprint(getattr(self.pipeline, name)) for name in ("unet", "vae")}
        for split in dict.fromkeys((*self.settings.sets, *self.settings.codebook_sets)):
            found[f"{split}.parquet"] = hashlib.sha256((self.data_dir / f"{split}.parquet").read_bytes()).hexdigest()
        return found

    def codebook_figures(self, split: str, rows) -> dict[str, Any]:
        tokenizer = self.model.visual_tokenizer
        codes = encode_rows(tokenizer, self.processor, rows, self.settings.batch_size)
        return codebook_use(codes, tokenizer.config.codebook_size).to_dict()

    def retrieval_figures(self, split: str, rows) -> dict[str, Any]:
        tokenizer, size = self.model.visual_tokenizer, self.settings.batch_size
        return {
            name: evaluate_retrieval(tokenizer, self.processor, rows, use_codes=use_codes, batch_size=size).to_dict()
            for name, use_codes in (("codes", True), ("embeddings", False))
        }

    def captions_figures(self, split: str, rows) -> dict[str, Any]:
        result = evaluate_captions(self.model, self.processor, rows, self.settings.batch_size)
        shown = [i * len(rows) // _EXAMPLES for i in range(_EXAMPLES)] if len(rows) > _EXAMPLES else range(len(rows))
        examples = [{"right": rows[i]["caption"], "said": result.captions[i]} for i in shown]
        return {**result.to_dict(), "examples": examples}

    def questions_figures(self, split: str, rows) -> dict[str, Any]:
        settings = self.settings
        limits: dict[str, Any] = {"max_per_topic": settings.max_questions_per_topic, "batch_size": settings.batch_size}
        return evaluate_vqa(self.model, self.processor, rows, **limits).to_dict()

    def drawing_figures(self, split: str, rows) -> dict[str, Any]:
        captions, _ = distinct_captions([row["caption"] for row in rows])
        settings = self.settings
        options: dict[str, Any] = {"num_candidates": settings.num_candidates, "seed": settings.seed}
        codes = codes_for_captions(self.pipeline, captions, settings.batch_size, **options)
        texts = self.judge.embed_captions(captions)
        drawn = self.judge.embed_pictures(self._draw(codes))
        ranks = caption_ranks(drawn, texts, torch.arange(len(captions)))
        # A caption of a training image can be drawn from memory; a new caption cannot.
        new = torch.tensor([normalize_text(caption) not in self._trained_captions for caption in captions])
        new_first = recalls(ranks[new])[0] if new.any() else 0.0
        figures = {**_judged(ranks), "new_caption_first": new_first, "num_new_captions": int(new.sum())}
        return {**figures, "num_candidates": settings.num_candidates or self.pipeline.config.num_candidates}

    def judge_figures(self, split: str, rows) -> dict[str, Any]:
        """How well the judge ranks real images, at their own size and at the size of drawings."""
        captions = [row["caption"] for row in rows]
        small = [open_picture(row).resize(self._drawn_size(), Image.Resampling.BICUBIC) for row in rows]
        result = judge_retrieval(self.judge, self._image_features(split, rows), captions)
        return {
            "real_caption_first": result.text_recalls[0],
            "real_caption_first_at_drawn_size": judge_pictures(self.judge, small, captions),
            "retrieval": result.to_dict(),
        }

    def reconstruction_figures(self, split: str, rows) -> dict[str, Any]:
        codes = encode_rows(self.model.visual_tokenizer, self.processor, rows, self.settings.batch_size)
        features = self._image_features(split, rows)
        captions = [row["caption"] for row in rows]
        return compare_reconstructions(self.judge, features, self._draw(codes), captions).to_dict()

    def _draw(self, codes: torch.Tensor) -> list[Image.Image]:
        settings = self.settings
        drawing = {"num_inference_steps": settings.num_inference_steps, "guidance_scale": settings.guidance_scale}
        return draw_codes(self.pipeline, codes, seed=settings.seed, batch_size=settings.batch_size, **drawing)

    def _image_features(self, split: str, rows) -> torch.Tensor:
        """Reference features of the real images; those of a whole set come from the cache folder."""
        references = self.judge.references
        if self.settings.limit is None:
            return references.split(self.data_dir, split)
        return references.pictures([open_picture(row) for row in rows])

    def _drawn_size(self) -> tuple[int, int]:
        size = self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor
        return size, size


def _judged(ranks: torch.Tensor) -> dict[str, Any]:
    first, five, ten = recalls(ranks)
    return {"caption_first": first, "caption_in_5": five, "caption_in_10": ten, "num_images": len(ranks)}
