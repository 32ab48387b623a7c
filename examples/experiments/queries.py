"""Causal against bilateral queries (SEED-LLaMA paper, section 4.3): which codes can a language model write?

The paper: of 5,000 captions, the model with causal codes writes 4,997 images of exactly 32 codes, the one with bilateral
codes 2,134.
"""

from measuring import of_codes, of_language_model
from reading_codes import read
from seeing_codes import load_coded
from setting import Place, Setting


ARMS = {"causal": {}, "bilateral": {"causal": False}}
USES_LANGUAGE = True


def measure(place: Place, setting: Setting) -> dict:
    model, looks = read(place, setting)
    tokenizer, codes, causal = load_coded(place, setting)
    figures = of_codes(tokenizer, codes["test"], causal)
    return figures | of_language_model(model, tokenizer, codes, setting.seed) | {"looks": looks}


def plot(axes, arms: dict[str, list[dict]]) -> None:
    """Two panels: what the description tells of each place, and images written without the constraint."""
    left, right = axes
    for arm, runs in arms.items():
        known = [
            [before - after for before, after in zip(run["frequency loss by place"], run["code loss by place"])]
            for run in runs
        ]
        places = range(1, len(known[0]) + 1)
        (line,) = left.plot(places, [sum(of) / len(of) for of in zip(*known)], label=arm)
        for run in runs:
            steps = [look["step"] for look in run["looks"]]
            right.plot(steps, [look["valid, sampled"] for look in run["looks"]], color=line.get_color(), alpha=0.7)
    left.set(xlabel="place of the code", ylabel="nats known beyond frequencies", title="what the model knows")
    right.set(xlabel="step of the language model", ylabel="%", xscale="log", title="whole images, sampled freely")
    left.legend()
