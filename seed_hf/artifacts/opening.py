"""Opens an artifact for a program that serves people with it: loaded, its weights looked at, the threads fitted.

    model, processor = open_model("seed-tiny")
    pipe = open_pipeline("owner/name", reads_and_writes=True)

[`load_model`] and [`load_pipeline`] only load, as a notebook or a trainer wants it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seed_hf.threads import fit_threads

from . import loading
from .loading import DEFAULT, Source


if TYPE_CHECKING:
    from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
    from seed_hf.modeling.processing_seed import SeedProcessor
    from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline


def open_model(source: Source = None, **place: Any) -> tuple[SeedForConditionalGeneration, SeedProcessor]:
    """A model that reads and writes, and its processor, with as many CPU threads as suit it.

    Args:
        source, **place: As of [`load_model`].

    Raises:
        FileNotFoundError: As `load_model`.
        ValueError: As `load_model`; a weight is NaN or infinite, and texts of it would look like any others.
    """
    from .finite import check_finite_parts

    loaded = loading.load_model(source, **place)
    check_finite_parts(source, loaded)
    fit_threads(*loaded)
    return loaded


def open_pipeline(source: Source = None, *, reads_and_writes: bool = False, **place: Any) -> SeedImagePipeline:
    """A pipeline, with as many CPU threads as suit it.

    Args:
        source, **place: As of [`load_pipeline`].
        reads_and_writes: Whether its language model and processor are needed; without them it draws from codes.

    Raises:
        FileNotFoundError: As `load_pipeline`.
        ValueError: As `load_pipeline`; a weight is NaN or infinite, or it cannot read and write as it should.
    """
    from .finite import check_finite_parts

    pipe = loading.load_pipeline(source, **place)
    if reads_and_writes and (not hasattr(pipe.seed_model, "language_model") or pipe.processor is None):
        raise ValueError(
            f"{source or DEFAULT}: this pipeline has no language model or no processor, so it cannot read and write. "
            "Build it with SeedImagePipeline(seed_model=..., processor=..., ...) and save it again."
        )
    parts = pipe.components.values()
    check_finite_parts(source, parts)
    fit_threads(*parts)
    return pipe
