"""Rows that can be indexed, each with its name."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset

from seed_hf.data.sources.checked_table import ROW
from seed_hf.shortages import check_shortage


class NamedRows(Dataset):
    """The rows of a dataset in memory. Messages name a row without an id, and one that cannot be read, by its number.

    Args:
        rows: The dataset, such as a `datasets.Dataset` or a list.
        name: What messages call it, such as "the training data".
    """

    def __init__(self, rows: Sequence[Any], name: str):
        self.rows = rows
        self.name = name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Any:
        try:
            return self._named(number, self.rows[number])
        except (ValueError, OSError) as error:  # a damaged image, which `datasets` decodes
            check_shortage(error, self._name(number))
            raise ValueError(f"{self._name(number)}: cannot be read ({error}).") from error

    def __getitems__(self, numbers: list[int]) -> list[Any]:
        """Several rows at once, as `datasets` reads them faster."""
        if hasattr(self.rows, "__getitems__"):
            try:
                return [self._named(number, row) for number, row in zip(numbers, self.rows.__getitems__(numbers))]
            except (ValueError, OSError):
                pass  # one after the other, to name the one that is bad
        return [self[number] for number in numbers]

    def _named(self, number: int, row: Any) -> Any:
        if not isinstance(row, Mapping) or row.get(ROW) is not None or row.get("id") is not None:
            return row
        return {**row, ROW: self._name(number)}

    def _name(self, number: int) -> str:
        return f"row {number} of {self.name}"
