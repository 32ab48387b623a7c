"""Means over seeds with their intervals, as a table and as a plot."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path


# Student's t for an interval of 95 %, by degrees of freedom.
MOST_SEEDS = 10
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def mean_and_reach(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and how far it may be off to both sides at 95 %; NaN for a single value.

    Args:
        values: One for each seed, at most ten.
    """
    number = len(values)
    mean = sum(values) / number
    if number == 1:
        return mean, math.nan
    variance = sum((value - mean) ** 2 for value in values) / (number - 1)
    return mean, T95[number - 1] * math.sqrt(variance / number)


def said(values: Sequence[float]) -> str:
    mean, reach = mean_and_reach(values)
    digits = 2 if abs(mean) < 10 else 1
    return f"{mean:.{digits}f}" if math.isnan(reach) else f"{mean:.{digits}f} ± {reach:.{digits}f}"


def table(arms: dict[str, list[dict]]) -> str:
    """Rows are figures, columns the arms, and how much each differs from the first, seed by seed.

    Args:
        arms: The figures of each seed.
    """
    first, *others = arms
    columns = [*arms, *(f"{other} less {first}" for other in others)]
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for name, value in arms[first][0].items():
        if not isinstance(value, (int, float)):
            continue
        found = {arm: [run[name] for run in runs] for arm, runs in arms.items()}
        differences = [[b - a for a, b in zip(found[first], found[other])] for other in others]
        cells = [said(values) for values in (*found.values(), *differences)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def save_plot(plot: Callable | None, arms: dict[str, list[dict]], path: Path) -> None:
    """The plot of a claim, if it has one and matplotlib is installed.

    Args:
        plot: Draws on two axes.
        arms: The figures of each seed.
        path: Of the image.
    """
    if plot is None:
        return
    try:
        import matplotlib
    except ModuleNotFoundError:
        print('No plot: it needs matplotlib, pip install ".[plots]"')
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    plot(axes, arms)
    figure.savefig(path, dpi=110)
