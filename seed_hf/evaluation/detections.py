"""What a detector finds in an image, and whether it is what a prompt asked for: GenEval's rules (arXiv 2310.11513)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


RELATIONS = ("left of", "right of", "above", "below")
POSITION_THRESHOLD = 0.1  # GenEval's: share of both sizes by which centres must be apart


@dataclass(frozen=True)
class Detection:
    """One object in an image.

    Args:
        label: What it is.
        box: (left, top, right, bottom), in any unit, from the upper left corner.
        score: How sure the detector is. The surest objects of a label are the ones that are looked at.
        colour: Its colour, if the detector tells.
    """

    label: str
    box: tuple[float, float, float, float]
    score: float = 1.0
    colour: str | None = None


class Detector(Protocol):
    """Finds objects in images. Any object with this method and these attributes is one."""

    counting_score: float  # where a number is asked for, objects that are less sure do not count

    @property
    def facts(self) -> Mapping[str, Any]:
        """What a result says of the detector: its weights and thresholds. Ready for JSON."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels that it can find."""

    def detect(self, images: list) -> list[list[Detection]]:
        """The objects in each RGB image."""


@dataclass(frozen=True)
class Wanted:
    """One clause of a prompt: so many objects of a label, with a colour, beside those of an earlier clause.

    Args:
        label: Of the objects.
        count: How many.
        colour: All of them have it.
        relation: One of "left of", "right of", "above", "below": where they are of the objects of clause `target`.
        target: Number of an earlier clause.
    """

    label: str
    count: int = 1
    colour: str | None = None
    relation: str | None = None
    target: int = 0


@dataclass(frozen=True)
class Verdict:
    """What is right in an image.

    Args:
        correct: All of it, by GenEval's rules.
        objects: All that is asked for is there, often enough.
        number: It is there exactly as often as asked, where that is asked for; `None` where it is not.
        colours: Of every colour that is asked for there are as many objects as should have it, whatever they are;
            `None` where no colour is asked for.
        relations: The objects are there, where they should be of one another; `None` where no place is asked for.
    """

    correct: bool
    objects: bool
    number: bool | None = None
    colours: bool | None = None
    relations: bool | None = None


@dataclass(frozen=True)
class Asked:
    """What an image must show.

    Args:
        include: All of it.
        exclude: None of it: (label, count) means fewer than `count` objects of the label.
        tag: Of prompts of this kind.
    """

    include: tuple[Wanted, ...]
    exclude: tuple[tuple[str, int], ...] = ()
    tag: str = ""

    @classmethod
    def from_metadata(cls, row: Mapping[str, Any]) -> Asked:
        """Read a line of GenEval's metadata.

        Args:
            row: With `include`, and perhaps `exclude` and `tag`.

        Raises:
            ValueError: A field is missing or has a wrong value.
        """
        clauses = row.get("include")
        if not isinstance(clauses, list) or not clauses:
            raise ValueError("`include` must be a list with what the image shows")
        wanted = tuple(_wanted(clause, number) for number, clause in enumerate(clauses))
        if not isinstance(row.get("exclude", []), list):
            raise ValueError(f"`exclude` must be a list with what the image does not show, got {row['exclude']!r:.80}")
        excluded = tuple((_label(clause), _count(clause)) for clause in row.get("exclude", []))
        return cls(wanted, excluded, str(row.get("tag", "")))

    def to_metadata(self) -> dict[str, Any]:
        """The same in GenEval's form."""
        include: list[dict[str, Any]] = []
        for wanted in self.include:
            clause: dict[str, Any] = {"class": wanted.label, "count": wanted.count}
            if wanted.colour:
                clause["color"] = wanted.colour
            if wanted.relation:
                clause["position"] = [wanted.relation, wanted.target]
            include.append(clause)
        row: dict[str, Any] = {"tag": self.tag, "include": include}
        if self.exclude:
            row["exclude"] = [{"class": label, "count": count} for label, count in self.exclude]
        return row

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_metadata(), ensure_ascii=False)

    @property
    def labels(self) -> set[str]:
        """All labels that are named."""
        return {wanted.label for wanted in self.include} | {label for label, _ in self.exclude}


def _wanted(clause: Any, number: int) -> Wanted:
    relation, target = None, 0
    if isinstance(clause, Mapping) and (position := clause.get("position")):
        if not isinstance(position, list | tuple) or len(position) != 2 or position[0] not in RELATIONS:
            raise ValueError(f"`position` must be one of {', '.join(RELATIONS)} with a clause, got {position!r}")
        relation, target = position
        if type(target) is not int or not 0 <= target < number:
            raise ValueError(f"`position` of clause {number} must name an earlier clause, got {target!r}")
    label, count, colour = _label(clause), _count(clause), clause.get("color")
    if colour is not None and not isinstance(colour, str):
        raise ValueError(f"`color` must be a text, got {colour!r:.80}")
    return Wanted(label, count, colour, relation, target)


def _label(clause: Any) -> str:
    if not isinstance(clause, Mapping) or not isinstance(clause.get("class"), str):
        raise ValueError(f"a clause must have a `class`, got {clause!r:.80}")
    return clause["class"]


def _count(clause: Mapping[str, Any]) -> int:
    count = clause.get("count", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"`count` must be a positive number, got {count!r}")
    return count


def check(asked: Asked, found: Sequence[Detection]) -> Verdict:
    """Compare what was found with what was asked for, by GenEval's rules.

    Of each label only as many objects are looked at as are asked for, the surest first. Beside GenEval's `correct`,
    the verdict says which part is wrong.

    Args:
        asked: What the image must show.
        found: What a detector found in it.
    """
    by_label: dict[str, list[Detection]] = {}
    for each in sorted(found, key=lambda each: -each.score):
        by_label.setdefault(each.label, []).append(each)
    objects, attributed, relations = True, True, True
    coloured: Counter[str] = Counter()
    groups: list[list[Detection]] = []
    for wanted in asked.include:
        group = by_label.get(wanted.label, [])[: wanted.count]
        groups.append(group)
        there = len(group) == wanted.count
        objects &= there
        if wanted.colour:
            coloured[wanted.colour] += wanted.count
            attributed &= all(each.colour == wanted.colour for each in group)
        if wanted.relation:
            targets = groups[wanted.target]
            complete = there and len(targets) == asked.include[wanted.target].count
            pairs = [(each, target) for each in group for target in targets]
            relations &= complete and all(wanted.relation in relations_of(*pair) for pair in pairs)
    number = all(len(by_label.get(label, [])) < count for label, count in asked.exclude)
    seen = Counter(each.colour for each in found)
    return Verdict(
        correct=objects and number and attributed and relations,
        objects=objects,
        number=objects and number if asked.exclude else None,
        colours=all(seen[colour] >= count for colour, count in coloured.items()) if coloured else None,
        relations=relations if any(wanted.relation for wanted in asked.include) else None,
    )


def relations_of(first: Detection, second: Detection) -> set[str]:
    """Where the first object is of the second: none, one or two of the four relations, as GenEval decides it.

    Args:
        first, second: Two objects of an image.
    """
    offset, beyond = [], []
    for low, high in ((0, 2), (1, 3)):
        apart = (first.box[low] + first.box[high] - second.box[low] - second.box[high]) / 2
        sizes = abs(first.box[high] - first.box[low]) + abs(second.box[high] - second.box[low])
        offset.append(apart)
        beyond.append(max(abs(apart) - POSITION_THRESHOLD * sizes, 0.0) * (1 if apart > 0 else -1))
    length = (offset[0] ** 2 + offset[1] ** 2) ** 0.5
    if max(map(abs, beyond)) < 1e-3 * length or not length:
        return set()
    across, down = beyond[0] / length, beyond[1] / length
    found = {"left of": across < -0.5, "right of": across > 0.5, "above": down < -0.5, "below": down > 0.5}
    return {relation for relation, holds in found.items() if holds}
