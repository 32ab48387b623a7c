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

# Names of repositories on the Hub -> the licence of their weights. BLIP-2 with an OPT is under OPT's licence, too, but
# SEED takes only its vision half, which is not.
_PARENTS = (
    (r"facebook/opt-.+", OPT),
    (r"CompVis/stable-diffusion-v1-\d", STABLE_DIFFUSION_1),
    (r"(runwayml|stable-diffusion-v1-5|benjamin-paine)/stable-diffusion-v1-5", STABLE_DIFFUSION_1),
    (r"(stabilityai|sd2-community)/stable-diffusion-2(-1)?(-base|-unclip|-unclip-small)?", STABLE_DIFFUSION_2),
    (r"Salesforce/blip2-.+", BLIP2),
)


def licence_of(parent: str) -> Licence | None:
    """The licence of a repository on the Hub; `None` if it is not known here."""
    return next((licence for name, licence in _PARENTS if re.fullmatch(name, parent, re.IGNORECASE)), None)


def licences_of(parents: Sequence[str]) -> dict[str, Licence]:
    """Base model -> licence, for the base models whose licence is known."""
    return {parent: licence for parent in parents if (licence := licence_of(parent))}


def front_matter(licences: Sequence[Licence]) -> dict[str, str]:
    """`license` and, where the Hub wants them, `license_name` and `license_link`, for all these licences together.

    Restrictive licences cover what permissive ones ask for. So permissive ones only count where there are no others.

    Args:
        licences: Of all base models.
    """
    binding = list(dict.fromkeys(licence for licence in licences if licence.id != "mit")) or list(licences)[:1]
    if not binding:
        return {}
    if len(binding) == 1 and binding[0].name is None:
        return {"license": binding[0].id}
    names = "-and-".join(licence.name or licence.id for licence in binding)
    return {"license": "other", "license_name": names, "license_link": binding[0].link}
