"""What a report evaluates, and how."""

from dataclasses import dataclass

from .judge import JUDGE_SEED


SETS = ("validation", "test_concept", "test_style")
SECTIONS = ("codebook", "retrieval", "captions", "questions", "judge", "drawing", "reconstruction")


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated and how; part of the report.

    Attributes:
        sets: Splits that all sections run on.
        codebook_sets: Further splits that only the section `"codebook"` runs on.
        sections: Some of `SECTIONS`.
        limit: At most this many images of each set, for a quick look. Fewer candidates make every figure better, so
            figures with a limit are not comparable with others.
        max_questions_per_topic: At most this many questions of one topic; `None` for all.
        batch_size: Images at a time. The figures do not depend on it.
        seed: Image i of a set is drawn from the noise of `seed + i`, and its candidates are sampled with it. Texts are
            greedy, and so are the codes of a caption if there is one candidate.
        judge_seed: The judge's own seed, different from any seed that the model was trained with.
        num_inference_steps: Denoising steps of a drawing.
        guidance_scale: Of a drawing; `None` for the pipeline's setting.
        num_candidates: Code sequences sampled for a drawing; `None` for the pipeline's setting.
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
