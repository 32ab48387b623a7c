"""Data: any source of images with captions as rows, rows as batches, and jobs that store codes or features.

Names are looked up on first use, so that importing this package imports neither torch nor `datasets`.
"""

from seed_hf.lazy import lazy_names


_MODULES = {
    "CachedFeatures": "seed_hf.data.features.cached",
    "ImageTextCollator": "seed_hf.data.batches.image_text",
    "ImageTextSource": "seed_hf.data.sources.source",
    "InstructionCollator": "seed_hf.data.batches.instruction",
    "LanguageModelCollator": "seed_hf.data.batches.language_model",
    "RowFilters": "seed_hf.data.sources.filters",
    "RowReport": "seed_hf.data.sources.row_checks",
    "FileOfTexts": "seed_hf.data.sources.listed",
    "NamedImages": "seed_hf.data.sources.listed",
    "answer_questions": "seed_hf.data.jobs.describing",
    "cache_features": "seed_hf.data.features.caching",
    "describe_images": "seed_hf.data.jobs.describing",
    "draw_prompts": "seed_hf.data.jobs.drawing",
    "image_text_dataset": "seed_hf.data.sources.image_text",
    "open_source": "seed_hf.data.sources.source",
    "tokenize_images": "seed_hf.data.jobs.tokenizing",
}

__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
