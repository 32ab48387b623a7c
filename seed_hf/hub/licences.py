"""The licences of well-known base models. A model that derives from one of them stays under its terms."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """A licence as the Hub's front matter names it, and its terms in a sentence.

    Attributes:
        id: The Hub's identifier, "other" for a licence that is not on its list.
        title: Its name in words.
        link: URL of its text.
        terms: What a user has to know.
        name: `license_name` of the front matter, for "other".
    """

    id: str
    title: str
    link: str
    terms: str
    name: str | None = None


OPT = Licence(
    "other",
    "OPT-175B licence",
    "https://github.com/facebookresearch/metaseq/blob/main/projects/OPT/MODEL_LICENSE.md",
    "research only, no commercial use; derivatives carry the same terms and a copy of the licence",
    "opt-license",
)
STABLE_DIFFUSION_1 = Licence(
    "creativeml-openrail-m",
    "CreativeML Open RAIL-M",
    "https://huggingface.co/spaces/CompVis/stable-diffusion-license",
    "use is restricted as its attachment A lists; derivatives carry the same restrictions",
)
STABLE_DIFFUSION_2 = Licence(
    "openrail++",
    "CreativeML Open RAIL++-M",
    "https://huggingface.co/stabilityai/stable-diffusion-2/blob/main/LICENSE-MODEL",
    "use is restricted as its attachment A lists; derivatives carry the same restrictions",
)
BLIP2 = Licence(
    "mit", "MIT", "https://github.com/salesforce/LAVIS/blob/main/LICENSE.txt", "the copyright notice stays with copies"
)

LLAMA_1 = Licence(
    "other",
    "LLaMA licence of 2023",
    "https://github.com/facebookresearch/llama/blob/llama_v1/MODEL_CARD.md",
    "research only, no commercial use; derivatives carry the same terms",
    "llama-1-license",
)


def _llama(version: str, link: str) -> Licence:
    terms = (
        "derivatives carry a copy of the licence, its notice and its acceptable use policy; services with more than "
        "700 million monthly users need a licence of their own"
    )
    if version != "2":
        terms += '; their names begin with "Llama", and they show "Built with Llama"'
    return Licence(f"llama{version}", f"Llama {version} Community License", link, terms)


LLAMA_2 = _llama("2", "https://ai.meta.com/llama/license/")
LLAMA_3 = {
    version: _llama(version, f"https://www.llama.com/llama{version.replace('.', '_')}/license/")
    for version in ("3", "3.1", "3.2", "3.3")
}
APACHE = Licence(
    "apache-2.0",
    "Apache License 2.0",
    "https://www.apache.org/licenses/LICENSE-2.0",
    "copies carry the licence and its notices, and say what was changed",
)
_PERMISSIVE = ("mit", "apache-2.0")

# Names of repositories on the Hub -> the licence of their weights. BLIP-2 with an OPT is under OPT's licence, too, but
# SEED takes only its vision half, which is not.
_PARENTS = (
    (r"facebook/opt-.+", OPT),
    (r"CompVis/stable-diffusion-v1-\d", STABLE_DIFFUSION_1),
    (r"(runwayml|stable-diffusion-v1-5|benjamin-paine)/stable-diffusion-v1-5", STABLE_DIFFUSION_1),
    (r"(stabilityai|sd2-community)/stable-diffusion-2(-1)?(-base|-unclip|-unclip-small)?", STABLE_DIFFUSION_2),
    (r"Salesforce/blip2-.+", BLIP2),
    (r"(AILab-CVC/seed-llama-.+|meta-llama/Llama-2-.+|lmsys/vicuna-.+-v1\.5(-16k)?)", LLAMA_2),
    (r"(huggyllama/llama-.+|lmsys/vicuna-.+-v1\.[13])", LLAMA_1),
    *((rf"meta-llama/(Meta-)?Llama-{re.escape(version)}-.+", licence) for version, licence in LLAMA_3.items()),
    (r"(Qwen/Qwen3-.+|HuggingFaceTB/SmolLM2?-.+|AILab-CVC/seed-tokenizer-2|mistralai/Mistral-7B-.+)", APACHE),
)


def licence_of(parent: str) -> Licence | None:
    """The licence of a repository on the Hub; `None` if it is not known here."""
    return next((licence for name, licence in _PARENTS if re.fullmatch(name, parent, re.IGNORECASE)), None)


def licences_of(parents: Sequence[str], origins: Sequence[str] = ()) -> dict[str, Licence]:
    """Base model -> licence, for the base models whose licence is known.

    Args:
        parents: Ids on the Hub.
        origins: Names of bundled checkpoints, whose weights are all under the package's licence.
    """
    known = {parent: licence for parent in parents if (licence := licence_of(parent))}
    return known | dict.fromkeys(origins, APACHE)


def front_matter(licences: Sequence[Licence]) -> dict[str, str]:
    """`license` and, where the Hub wants them, `license_name` and `license_link`, for all these licences together.

    Restrictive licences cover what permissive ones ask for. So permissive ones only count where there are no others.

    Args:
        licences: Of all base models.
    """
    binding = (
        list(dict.fromkeys(licence for licence in licences if licence.id not in _PERMISSIVE)) or list(licences)[:1]
    )
    if not binding:
        return {}
    if len(binding) == 1 and binding[0].name is None:
        return {"license": binding[0].id}
    names = "-and-".join(licence.name or licence.id for licence in binding)
    return {"license": "other", "license_name": names, "license_link": binding[0].link}
