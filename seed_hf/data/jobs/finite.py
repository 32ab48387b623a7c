"""No number of a job is NaN or infinite: neither weights, which are checked before, nor what comes out for a row."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import nn

from seed_hf.data.sources.source_row import SourceRow
from seed_hf.many import encode_many
from seed_hf.modeling.finite_values_seed import NotFiniteError
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


def check_weights(model: nn.Module, what: str, parts: Collection[str] | None = None) -> None:
    """Refuse weights that are NaN or infinite, as a broken training or a damaged file leaves them.

    Args:
        model: The model.
        what: What it is, for the message.
        parts: The first parts of the names of the weights to look at; all by default.

    Raises:
        ValueError: The message names the first such weight.
    """
    for name, weight in model.named_parameters():
        if (parts is None or name.partition(".")[0] in parts) and not weight.isfinite().all():
            raise ValueError(
                f"{what}: the weight {name} holds values that are NaN or infinite, so every image would get the same "
                "meaningless result. Take an intact copy, or a checkpoint from before they came up."
            )


def codes_of_rows(tokenizer: SeedTokenizer, values: torch.Tensor, rows: Sequence[SourceRow]) -> torch.Tensor:
    """The codes `(rows, num_query_tokens)` of a batch.

    Args:
        tokenizer: Encodes.
        values: `(rows, 3, height, width)`, normalised.
        rows: Where they come from.

    Raises:
        NotFiniteError: What is computed of a row is NaN or infinite; the message names the first such row.
    """
    try:
        return encode_many(tokenizer, values)
    except NotFiniteError as error:
        row = rows[error.rows[0]]
        raise NotFiniteError(f"{row.file}, row {row.row} (id {row.id}): {error}", error.rows) from error
