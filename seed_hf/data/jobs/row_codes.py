"""The codes of the rows of a batch; where they are NaN or infinite, the error names the row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seed_hf.data.sources.source_row import SourceRow
from seed_hf.many import encode_many
from seed_hf.modeling.finite_values_seed import NotFiniteError
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


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
