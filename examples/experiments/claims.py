"""The claims that are tested: which settings are compared, and what is plotted of them."""

from collections.abc import Callable
from dataclasses import dataclass

from measuring import KEPT


@dataclass(frozen=True)
class Claim:
    """A comparison.

    Args:
        question: what is asked, and what the paper says.
        arms: the fields of a `Setting` that each arm changes; the others are compared with the first.
        language: whether a language model is trained on the codes.
        plot: draws on two axes, given the figures of each arm and seed.
    """

    question: str
    arms: dict[str, dict]
    language: bool = True
    plot: Callable | None = None


Arms = dict[str, list[dict]]


def mean(rows) -> list[float]:
    """The mean of each place of equally long rows."""
    return [sum(of) / len(of) for of in zip(*rows)]


def log_scale(axis, values) -> None:
    """A logarithmic x axis whose ticks are the values that were measured."""
    axis.set_xscale("log")
    axis.set_xticks(list(values), labels=[str(value) for value in values])
    axis.minorticks_off()


def plot_queries(axes, arms: Arms) -> None:
    left, right = axes
    for arm, runs in arms.items():
        pairs = [zip(run["frequency loss by place"], run["code loss by place"]) for run in runs]
        known = mean([before - after for before, after in pair] for pair in pairs)
        (line,) = left.plot(range(1, len(known) + 1), known, label=arm)
        for run in runs:
            steps = [look["step"] for look in run["looks"]]
            for how, style in (("greedy", "-"), ("sampled", ":")):
                right.plot(steps, [look[f"valid, {how}"] for look in run["looks"]], style, color=line.get_color())
    left.set(xlabel="place of the code", ylabel="nats", title="known of each code beyond its frequency")
    right.set(xlabel="steps of the language model", ylabel="%", title="valid without the constraint")
    log_scale(right, steps)
    left.legend()


def plot_order(axes, arms: Arms) -> None:
    for axis, name in zip(axes, ("captions right", "R@m")):
        for arm, runs in arms.items():
            for end, style in (("first", "-"), ("last", ":")):
                values = mean(run[f"{name} of the {end} codes"] for run in runs)
                (line,) = axis.plot(KEPT[: len(values)], values, style, label=f"{arm}, {end}")
        axis.set(xlabel="codes that are kept", ylabel="%", title=name)
        log_scale(axis, KEPT[: len(values)])
    axes[0].legend()


def plot_both(axes, arms: Arms) -> None:
    """R@m and captions of each arm, a dot for each seed."""
    for axis, name in zip(axes, ("R@m, codes", "captions right")):
        for place, runs in enumerate(arms.values()):
            axis.plot([place] * len(runs), [run[name] for run in runs], "o", alpha=0.6)
        axis.set(xticks=range(len(arms)), xticklabels=list(arms), ylabel="%", title=name)


CLAIMS = {
    "queries": Claim(
        "Causal or bilateral queries? SEED-LLaMA's paper, as others report it: of 5,000 captions the model with "
        "causal codes writes 4,997 images of exactly 32 codes, the one with bilateral codes 2,134.",
        {"causal": {}, "bilateral": {"causal": False}},
        plot=plot_queries,
    ),
    "order": Claim(
        "What do the first k codes say alone? The others are replaced by the most frequent code of their place.",
        {"causal": {}, "bilateral": {"causal": False}},
        plot=plot_order,
    ),
    "losses": Claim(
        "What should codes be trained for: to tell images apart, to rebuild the causal embeddings, or both? And what "
        "does quantising cost? The paper: 2.0 and 3.3 points of R@m.",
        {"both": {}, "contrast alone": {"reconstruction": 0.0}, "reconstruction alone": {"contrast": 0.0}},
        plot=plot_both,
    ),
    "codebook": Claim(
        "How many codes should there be?",
        {"512": {}, "32": {"codebook": 32}, "128": {"codebook": 128}, "2048": {"codebook": 2048}},
        plot=plot_both,
    ),
    "length": Claim(
        "How many codes should an image have?",
        {"32": {}, "4": {"places": 4}, "8": {"places": 8}, "16": {"places": 16}},
        plot=plot_both,
    ),
    "remedies": Claim(
        "What helps against codes that are never used?",
        {
            "k-means and revival": {},
            "k-means": {"revive": 0},
            "revival": {"kmeans": False},
            "neither": {"kmeans": False, "revive": 0},
        },
        language=False,
    ),
    "embedding": Claim(
        "Should a code enter the language model as a row that it learns, or as its codebook vector through one FC "
        "layer, as in the paper?",
        {"learned rows": {}, "FC layer": {"visual_embedding": "projected"}},
        plot=plot_both,
    ),
    "lora": Claim(
        "Is LoRA enough to teach a language model codes? The paper trains SEED-OPT with it.",
        {"all weights": {}, "LoRA, rank 16": {"lora": 16}, "LoRA, rank 64": {"lora": 64}},
        plot=plot_both,
    ),
}
