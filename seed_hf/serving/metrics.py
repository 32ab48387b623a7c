"""Counts of a server, in the text format of Prometheus."""

from collections import Counter
from collections.abc import Callable


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def _number(value: float) -> str:
    """All digits: a rounded count stands still."""
    return str(int(value)) if value == int(value) else repr(float(value))


class Metrics:
    """Counts that only grow, and gauges that are read when somebody asks. All labels come from fixed sets."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[str, Counter[tuple[tuple[str, str], ...]]]] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def counter(self, name: str, about: str) -> None:
        """Begin a counter.

        Args:
            name: Ends in `_total`.
            about: One line.
        """
        self._counts[name] = (about, Counter())

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Show a value that goes up and down.

        Args:
            name: Of the gauge.
            about: One line.
            read: Its value now.
        """
        self._gauges[name] = (about, read)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count.

        Args:
            name: Of a counter.
            amount: What is added.
            labels: Of the series.
        """
        self._counts[name][1][tuple(labels.items())] += amount  # type: ignore[assignment] # seconds are counted, too

    def text(self) -> str:
        """Everything, as Prometheus reads it."""
        lines = []
        for name, (about, series) in self._counts.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} counter"]
            for labels, value in sorted(series.items()):
                inner = ",".join(f'{label}="{text}"' for label, text in labels)
                lines.append(f"{name}{{{inner}}} {_number(value)}")
        for name, (about, read) in self._gauges.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge", f"{name} {_number(read())}"]
        return "\n".join(lines) + "\n"
