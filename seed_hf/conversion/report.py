"""The report of a conversion, with every key of the checkpoint, and the error when there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


_TITLES = {
    "seed1": "SEED-1: text-aligned generation embeddings",
    "seed2": "SEED-2: one image-aligned generation embedding",
    "stage1": "stage I: Causal Q-Former and text tower, without a codebook",
}
# Longer lists are shortened in print. `ConversionReport` and `ConversionError` hold all keys.
_SHOWN_IN_REPORT = 12
_SHOWN_IN_ERROR = 50


class ConversionError(ValueError):
    """A checkpoint cannot be converted. The message names the files, the reason and the keys.

    Args:
        message: One sentence without the keys.
        missing, unknown, misshapen: The keys.
    """

    def __init__(
        self, message: str, missing: Sequence[str] = (), unknown: Sequence[str] = (), misshapen: Sequence[str] = ()
    ):
        self.missing, self.unknown, self.misshapen = list(missing), list(unknown), list(misshapen)
        super().__init__(message)


@dataclass
class ConversionReport:
    """What was done with each key of a checkpoint. `print` shows it.

    Args:
        kind: Which original the checkpoint is: "seed1", "seed2" or "stage1".
        head: "qformer" or "mlp": the head that makes the generation embeddings.
        used: The authors' key -> our parameter.
        unused: Known keys that the converted model does not need.
        missing: Missing keys that the caller allowed. Their parameters are newly initialised.
        unknown: Unknown keys that the caller allowed.
        new: Our parameters that such a checkpoint never holds (stage II of a stage I checkpoint). They are newly
            initialised.
        replaced: Keys that several files hold with different values. Those of the last file were used.
        files: The files, in order.
        text_tower, embedding_decoder: Whether the checkpoint has these optional parts.
        parameters: Number of weights of the converted model.
    """

    kind: str
    head: str
    used: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    text_tower: bool = False
    embedding_decoder: bool = False
    parameters: int = 0

    def __str__(self) -> str:
        stage_two = "" if self.kind == "stage1" else f", made by the {'MLP' if self.head == 'mlp' else 'Q-Former'}"
        lines = [f"{_TITLES[self.kind]}{stage_two}"]
        lines += [f"  {'from':<18}{file}" for file in self.files]
        for name, there in (("text tower", self.text_tower), ("embedding decoder", self.embedding_decoder)):
            lines.append(f"  {name:<18}{'yes' if there else 'no'}")
        lines.append(f"  {'parameters':<18}{self.parameters:,}")
        for name in ("used", "unused", "missing", "unknown", "new", "replaced"):
            keys = list(getattr(self, name))
            lines.append(f"  {name:<18}{len(keys)}")
            if name != "used":
                lines += [f"    {line}" for line in shown(keys, limit=_SHOWN_IN_REPORT)]
        return "\n".join(lines)


def shown(keys: Sequence[str], files: Mapping[str, str] | None = None, limit: int = _SHOWN_IN_ERROR) -> list[str]:
    """Keys as a message shows them: with their files if known, and shortened to the first ones.

    Args:
        keys: All of them.
        files: Key -> file.
        limit: How many to show.
    """
    named = [f"{key} ({files[key]})" if files and key in files else key for key in keys]
    if len(named) > limit:
        named = [*named[:limit], f"... and {len(named) - limit} more"]
    return named
