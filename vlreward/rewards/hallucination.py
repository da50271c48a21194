"""Does a text tell of things that are not in the picture?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from vlreward.config import Fraction, NotNegative
from vlreward.errors import ConfigError, DataError
from vlreward.models.detector import Detector
from vlreward.registry import register
from vlreward.rewards.base import Reward, explain
from vlreward.rewards.boxes import check_boxes
from vlreward.rewards.claims import Clause, Lexicon, Mention, Relation, subsentences
from vlreward.rewards.objects import judged_picture
from vlreward.tiny.scene import RELATIONS, relation_holds
from vlreward.types import RewardOutput, Rollout, Segment

KINDS = ("existence", "attribute", "relation")


@dataclass(frozen=True)
class Known:
    """A thing that is in the picture. An attribute of a kind that is not among `attributes` is unknown."""

    label: str
    attributes: Mapping[str, Sequence[str]]
    box: Sequence[float] | None = None


@dataclass(frozen=True)
class Truth:
    """What is known of a picture."""

    things: Sequence[Known]
    relations: Sequence[tuple[int, str, int]] | None = None
    """None: relations other than by boxes are unknown."""


@register("hallucination")
@dataclass(kw_only=True)
class Hallucination(Reward):
    """How true the text's sub-sentences are to the picture, by three kinds of facts: existence, attribute, relation. In [-1, 1].

    A sub-sentence that names a thing of `objects` claims that it exists; a word of `attributes` before it ('red circle') or after 'is'
    claims an attribute; a word of `relations` between two things claims that they stand so. Of each kind a sub-sentence is worth -1 where
    one of its facts is false, 1 where all are true, 0 where it claims none; its reward is the mean over the kinds by their weights, and
    the score is the mean over the sub-sentences with facts, 0 without any. These sub-sentences are the segments, so `segment_credit`
    gives each token its own.

    What is true stands in `target.objects`, [{label, box?, color?, ...}] with one key for each kind of attribute (a value or a list),
    and `target.relations`, [{subject, relation, object}] with indices into it; left of, right of, above and below also follow from
    boxes. With `detector` its detections are the objects instead. A fact that nothing is known about is none.

    Source: FGAIF, arXiv 2404.05046: sub-sentences, three kinds of atomic facts, their rewards summed at each sub-sentence; its facts are
    judged by a vision-language model and three trained reward models, here by known or detected objects. M-HalDetect (arXiv 2308.06394)
    labels segments accurate and inaccurate likewise.

    Known cheats: telling little, or nothing (0: weigh in a reward for what should be told); repeating true facts (a fact counts once,
    so the repetition is no segment); denials, of which there is no end ('no dog' is no fact where true, and false where there is one);
    words outside of the lexicon (not judged: keep `objects` wide, with `aliases`); splitting one thing into vague ones ('a shape'); how many
    there are is not judged (pair with `count_match`).

    Example: {keys: {objects: [circle, square], attributes: {color: [red, blue]}}, text: "A red circle. A square.", target: {objects: [{label: circle, color: blue}]}} -> -0.167
    """  # noqa: E501

    objects: tuple[str, ...]
    """What can be named, in the singular. Plurals in -s and -es are read too."""
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kind of attribute -> its values."""
    relations: tuple[str, ...] = RELATIONS
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other words -> what they stand for."""
    existence: NotNegative = 1.0
    attribute: NotNegative = 1.0
    relation: NotNegative = 1.0
    detector: Detector | None = None
    at_least: Fraction = 0.5
    """Confidence from which a detection is an object."""
    bounds = (-1.0, 1.0)

    def __post_init__(self):
        if not self.objects:
            raise ConfigError("is empty, expected the names of things that a text may tell of", "objects")
        if not any(self.weights.values()):
            raise ConfigError("is 0 like the other two, expected a weight above 0 for one of them", "existence")
        self.needs = ("text", "visual" if self.detector else "target.objects")  # type: ignore[misc]

    @property
    def weights(self) -> dict[str, float]:
        return {kind: getattr(self, kind) for kind in KINDS}

    @cached_property
    def lexicon(self) -> Lexicon:
        return Lexicon(self.objects, self.attributes, self.relations, self.aliases)

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        output = RewardOutput(scores=torch.full((len(rollouts),), float("nan"), dtype=torch.float64))
        parts = torch.full((len(rollouts), len(KINDS)), float("nan"), dtype=torch.float64)
        for row, (rollout, truth) in enumerate(zip(rollouts, self.truths(rollouts), strict=True)):
            if isinstance(truth, str):
                output.errors[row] = truth
                continue
            text = rollout.text or ""
            judged = self.judge(self.lexicon.read(text, subsentences(text)), truth)
            total = sum(self.weights.values())
            worth = {place: sum(self.weights[kind] * value for kind, value in found.items()) / total for place, found in judged.items()}
            output.segments[row] = [Segment(start=start, end=end, reward=reward) for (start, end), reward in worth.items()]
            output.scores[row] = sum(worth.values()) / max(1, len(worth))
            for column, kind in enumerate(KINDS):
                values = [found[kind] for found in judged.values() if kind in found]
                if values:
                    parts[row, column] = sum(values) / len(values)
            output.notes[row] = "; ".join(f"{text[start:end]!r:.60} {reward:+.2g}" for (start, end), reward in worth.items())
        output.parts = dict(zip(KINDS, parts.unbind(1), strict=True))
        return output

    def truths(self, rollouts: Sequence[Rollout]) -> list[Truth | str]:
        """What is known of each rollout's picture, or what is wrong with its target."""
        found: list[Truth | str] = []
        if self.detector is None:
            for rollout in rollouts:
                try:
                    found.append(known(rollout.sample.target, self.attributes))
                except DataError as error:
                    found.append(str(error))
            return found
        pictures = []
        for rollout in rollouts:
            try:
                picture = judged_picture(rollout)
                picture.pil  # noqa: B018 - decodes here, so that a broken file costs its own row only
                pictures.append(picture)
                found.append("")
            except DataError as error:
                found.append(explain(error))
        seen = iter(self.detector.detect(pictures, [list(self.objects)] * len(pictures)))
        return [self._seen(next(seen)) if truth == "" else truth for truth in found]

    def _seen(self, detections: Sequence[Any]) -> Truth:
        sure = [detection for detection in detections if detection.score >= self.at_least]
        return Truth([Known(d.label.casefold(), {"color": [d.color]} if d.color else {}, d.box) for d in sure])

    def judge(self, clauses: Sequence[Clause], truth: Truth) -> dict[tuple[int, int], dict[str, int]]:
        """(start, end) of each sub-sentence with facts -> kind -> 1 or -1."""
        told: set[Any] = set()
        judged = {}
        for clause in clauses:
            verdicts: dict[str, list[bool]] = {kind: [] for kind in KINDS}
            for kind, fact, true in self._facts(clause, truth):
                if not true or fact not in told:
                    verdicts[kind].append(true)
                told.add(fact)
            worth = {kind: 1 if all(values) else -1 for kind, values in verdicts.items() if values}
            if worth:
                judged[clause.start, clause.end] = worth
        return judged

    def _facts(self, clause: Clause, truth: Truth):
        """Kind, the fact itself and whether it is true, for each fact of a sub-sentence that something is known about."""
        for mention in clause.mentions:
            alike = [thing for thing in truth.things if thing.label == mention.label]
            if mention.denied:
                if alike and not mention.attributes:
                    yield "existence", ("no", mention.label), False
                continue
            yield "existence", mention.label, bool(alike)
            told = [kind for kind in mention.attributes if any(kind in thing.attributes for thing in alike)]
            if told:
                fact = (mention.label, *sorted(mention.attributes[kind] for kind in told))
                yield "attribute", fact, any(fits(thing, mention) for thing in alike)
        for relation in clause.relations:
            true = related(relation, truth)
            if true is not None:
                names = [(mention.label, *sorted(mention.attributes.values())) for mention in (relation.first, relation.second)]
                yield "relation", (names[0], relation.name, names[1]), true


def fits(thing: Known, mention: Mention) -> bool:
    """Whether nothing that is known of the thing speaks against the mention."""
    known = thing.attributes
    return thing.label == mention.label and all(value in known[kind] for kind, value in mention.attributes.items() if kind in known)


def related(relation: Relation, truth: Truth) -> bool | None:
    """Whether two things that fit stand so; None where such things are not there, or nothing is known of how they stand."""
    firsts, seconds = ([i for i, thing in enumerate(truth.things) if fits(thing, mention)] for mention in (relation.first, relation.second))
    pairs = [(a, b) for a in firsts for b in seconds if a != b]
    if not pairs or relation.first.denied or relation.second.denied:
        return None
    if truth.relations is not None and any((a, relation.name, b) in truth.relations for a, b in pairs):
        return True
    boxes = [(truth.things[a].box, truth.things[b].box) for a, b in pairs]
    if relation.name in RELATIONS and all(a is not None and b is not None for a, b in boxes):
        return any(relation_holds(relation.name, list(a or ()), list(b or ())) for a, b in boxes)
    return None if truth.relations is None else False


def known(target: Mapping[str, Any], kinds: Sequence[str] | Mapping[str, Any]) -> Truth:
    """`target.objects` and `target.relations`, checked. Raises DataError."""
    objects, relations = target["objects"], target.get("relations")
    if not isinstance(objects, list | tuple):
        raise DataError(f"target.objects is {objects!r}, expected a list of {{label, box, ...}}")
    things = []
    for i, entry in enumerate(objects):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("label"), str):
            raise DataError(f"target.objects[{i}] is {entry!r}, expected a mapping with a 'label'")
        box = entry.get("box")
        if box is not None:
            check_boxes([box], name=f"objects[{i}].box")
        things.append(Known(entry["label"].casefold(), {kind: _values(entry[kind], i, kind) for kind in kinds if kind in entry}, box))
    triples = None
    if relations is not None:
        if not isinstance(relations, list | tuple):
            raise DataError(f"target.relations is {relations!r}, expected a list of {{subject, relation, object}}")
        triples = [_triple(entry, i, len(things)) for i, entry in enumerate(relations)]
    return Truth(things, triples)


def _values(value: Any, i: int, kind: str) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(word, str) for word in values):
        raise DataError(f"target.objects[{i}].{kind} is {value!r}, expected a text or a list of texts")
    return [word.casefold() for word in values]


def _triple(entry: Any, i: int, count: int) -> tuple[int, str, int]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("relation"), str):
        raise DataError(f"target.relations[{i}] is {entry!r}, expected {{subject, relation, object}}")
    for end in ("subject", "object"):
        if entry.get(end) not in range(count):
            raise DataError(f"target.relations[{i}].{end} is {entry.get(end)!r}, expected an index below {count}")
    return entry["subject"], entry["relation"].casefold(), entry["object"]
