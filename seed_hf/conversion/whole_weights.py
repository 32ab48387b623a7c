"""The weights of a folder, checked against the model that they are for while they are read."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from transformers.modeling_utils import PreTrainedModel

from seed_hf.modeling.whole_weights_seed import without_tied

from .report import ConversionError, shown
from .seed_x import are_continuous, no_codes
from .weight_shards import read_tensors


_NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class WholeWeightsReader:
    """Reads all weights of a model, one at a time, and raises at the end if they were not.

    Args:
        folder: That they come from, for messages.
        model: Whose weights they are; it may be on the meta device.
        verdict: What to say of the folder if they do not fit: "not converted as a SEED-LLaMA".
    """

    def __init__(self, folder: Path, model: PreTrainedModel, verdict: str):
        self.folder, self.verdict = folder, verdict
        self.shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
        self.tied = dict(model.all_tied_weights_keys)
        self.others = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
        self.used: list[str] = []
        self.computed: list[str] = []

    def read(
        self, files: Iterable[Path], dtype: torch.dtype | None = None, computed: str = "\0", part: str = "\0"
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, weight) of all weights. A matrix that shares its weights with another is read once.

        Args:
            files: From `weight_files`.
            dtype: Number type to give them. Default: as stored.
            computed: Names that end so are no weights: the model computes them itself.
            part: What names begin with where the model is a part of a larger one.

        Raises:
            ConversionError: Weights are missing, unknown, twice there, of another shape, no floating-point numbers,
                NaN or infinite; or two that should be the same differ.
        """
        strange: list[str] = []
        wrong: list[str] = []
        shared: dict[str, bytes] = {}
        for found, tensor, file in read_tensors(files):
            name = found.removeprefix(part)
            if name.endswith(computed):
                self.computed.append(name)
            elif any(pattern.search(found) for pattern in self.others):
                continue
            elif name not in self.shapes:
                strange.append(f"{name} ({file.name})")
            elif name in self.used:
                wrong.append(f"{name} is there twice, again in {file.name}")
            else:
                self.used.append(name)
                changed = tensor if dtype is None else tensor.to(dtype)
                if fault := self._fault(name, tensor, changed):
                    wrong.append(f"{name} {fault}")
                elif name not in {*self.tied, *self.tied.values()}:
                    yield name, changed
                elif (hashed := _hash(tensor)) not in shared.values():
                    shared[name] = hashed
                    yield name, changed
        missing = sorted(without_tied(set(self.shapes) - set(self.used), self.tied))
        if are_continuous(strange):
            raise no_codes(self.folder)
        if len(shared) > 1:
            wrong.append(f"{' and '.join(shared)} differ, but config.json says tie_word_embeddings")
        if missing or strange or wrong:
            message = [f"{self.folder}: {self.verdict}."]
            for title, keys in (("Missing", missing), ("Unknown", strange), ("Wrong", wrong)):
                if keys:
                    message.append(f"{title} ({len(keys)}): {', '.join(shown(keys))}.")
            raise ConversionError(" ".join(message), missing=missing, unknown=strange, misshapen=wrong)

    def _fault(self, name: str, stored: torch.Tensor, changed: torch.Tensor) -> str | None:
        if tuple(stored.shape) != self.shapes[name]:
            return f"is {tuple(stored.shape)}, must be {self.shapes[name]}"
        if stored.dtype not in _NUMBERS:
            return f"holds {str(stored.dtype).removeprefix('torch.')}, as a quantized copy does"
        if not stored.numel() or torch.stack(changed.aminmax()).isfinite().all():  # one pass, without a copy
            return None
        if changed is not stored and stored.isfinite().all():
            return f"has values too large for {str(changed.dtype).removeprefix('torch.')}: take bfloat16 or float32"
        return "holds NaN or infinite values"


def _hash(tensor: torch.Tensor) -> bytes:
    return hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().data).digest()
