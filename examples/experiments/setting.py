"""What decides a run, and how large it is."""

from dataclasses import dataclass, fields
from pathlib import Path


# Fields of a `Setting` that decide each stage. Arms that agree in them share the stage.
SEEING = ("seed", "causal", "places")
CODING = (*SEEING, "codebook", "reconstruction", "contrast", "kmeans", "revive")
STAGES = {"words": ("seed",), "seeing": SEEING, "coding": CODING}


@dataclass(frozen=True)
class Setting:
    """One run from stage I to the language model. Arms of an experiment differ in one of the fields.

    Args:
        seed: of weights and order of data.
        causal: whether query i sees only queries 0 to i.
        places: codes of an image.
        codebook: how many codes there are.
        reconstruction: weight of the loss that rebuilds the causal embeddings from the codes.
        contrast: weight of the loss that tells images apart by their codes.
        kmeans: whether the codebook starts at k-means centres.
        revive: steps after which unused codes move; 0 for never.
        visual_embedding: "learned" rows of codes, or codebook vectors "projected" by an FC layer.
        lora: rank of LoRA; 0 trains all weights of the language model.
    """

    seed: int = 0
    causal: bool = True
    places: int = 32
    codebook: int = 512
    reconstruction: float = 1.0
    contrast: float = 0.5
    kmeans: bool = True
    revive: int = 50
    visual_embedding: str = "learned"
    lora: int = 0

    def name(self, stage: str) -> str:
        """Folder of a stage: the seed, and what of the stage is not the default."""
        used = STAGES.get(stage, tuple(field.name for field in fields(self)))
        changed = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if field.name in used and field.name != "seed" and getattr(self, field.name) != field.default
        ]
        return "-".join([f"{stage}-seed{self.seed}", *changed])


@dataclass(frozen=True)
class Scale:
    """How long a run is.

    Args:
        scenes: to learn from.
        tested: scenes of the set "test" that figures are about.
        words, seeing, coding, language: steps of the stages.
        batch: rows of a step.
        looks: how often the language model is looked at while it learns.
    """

    scenes: int = 24_000
    tested: int = 1_000
    words: int = 150
    seeing: int = 300
    coding: int = 1500
    language: int = 1500
    batch: int = 128
    looks: int = 6


SCALES = {
    "evening": Scale(),
    # What docs/experiments.md shows.
    "small": Scale(6_000, 300, words=40, seeing=120, coding=300, language=250, batch=64, looks=4),
    # A few steps, to see that everything runs.
    "tiny": Scale(200, 40, words=3, seeing=3, coding=3, language=4, batch=16, looks=2),
}


@dataclass(frozen=True)
class Place:
    """Where everything is.

    Args:
        pictograms: folder with the Parquet files of the pictograms.
        vit: folder of a `Blip2VisionModel` that knows the things.
        work: folder that all experiments share.
        scale: name of one of `SCALES`.
    """

    pictograms: Path
    vit: Path
    work: Path
    scale: str

    @property
    def size(self) -> Scale:
        return SCALES[self.scale]
