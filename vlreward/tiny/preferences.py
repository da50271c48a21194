"""Comparisons of the tiny world: attempts with a known number of mistakes, so that what a critic should find is known."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from vlreward.config import Bound, Count, Fraction
from vlreward.data.comparisons import Comparisons
from vlreward.data.media import Clip, Picture
from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.tiny.motion import FRAMES, WAYS, glide, gliding
from vlreward.tiny.scene import COLORS, LARGE, SHAPES, SMALL, Thing, draw, placed, scene, two
from vlreward.tiny.tasks import HOLDOUT, SIDE, in_place, seen, stands, told
from vlreward.types import Comparison, Rollout, Sample

TURNED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
PADDING = " is there."
"""What makes an answer longer and neither better nor worse."""
MOST_PADDING = 3
MISTAKES = {"reports": 3, "drawings": 2, "clips": 2}
"""Most mistakes of an attempt."""
JUMPS = [list(order) for order in itertools.permutations(range(FRAMES)) if all(abs(a - b) > 1 for a, b in itertools.pairwise(order))]
"""Orders of a clip's frames in which no two neighbours stay together."""
HABITS = ("true", "turned", "recolored", "backwards", "brief", "wordy")
"""What the policies of `policies` do: nothing wrong; turn relations round; say the next color of each thing; name the second thing first;
leave out all but the relation; say the relation twice."""


@register("tiny")
@dataclass(kw_only=True)
class TinyComparisons(Comparisons):
    """Comparisons of the tiny world, made as they are read: number i of a seed is the same on every machine.

    `reports`: answers to what there is in a picture, with 0 to 3 mistakes in colors, shapes and the relation (the aspects), a label for
    each sentence, and padding whose length says nothing of the truth. `drawings`: pictures for a caption with 0 to 2 things wrong. `clips`:
    clips for a caption, wrong in color, in motion (direction or smoothness), or both; these are the aspects.
    `policies`: answers of two policies with habits, one of which wrote `target.reference` too (score 1). A score is 1 minus the share of
    the most mistakes.
    """

    task: Literal["reports", "drawings", "clips", "policies"]
    count: Count
    seed: int = 0
    holdout: bool = False
    """Take seeds that no shipped model was trained on."""
    answers: Annotated[int, Bound(2)] = 2
    """Attempts at each sample."""
    ties: Fraction = 0.0
    """Share of comparisons whose attempts have equally many mistakes."""
    length_bias: Fraction = 0.0
    """Share of comparisons in which the longer answer was chosen whatever is true, as by a hurried annotator."""
    places: bool = False
    """Reports give the box of each thing too, always the right one, as the tiny policies write them."""
    side: Count = SIDE
    """Pixels of drawings and clips; the tiny generators make them of 32."""

    def __post_init__(self):
        most = MISTAKES.get(self.task, 1) + 1
        if self.answers > most:
            raise ConfigError(f"is {self.answers}, but attempts of {self.task!r} differ in at most {most} ways", "answers")
        if self.length_bias and self.task != "reports":
            raise ConfigError(f"is {self.length_bias}, but lengths vary in 'reports' alone", "length_bias")
        if self.ties and self.task == "policies":
            raise ConfigError(f"is {self.ties}, but of two policies one is always the target", "ties")

    def __iter__(self) -> Iterator[Comparison]:
        base = (HOLDOUT if self.holdout else 0) + self.seed * 1_000_003
        for index in range(self.count):
            seed = base + index
            rng = random.Random(f"compare/{self.task}/{seed}")
            made = MAKERS[self.task](rng, self, f"{self.task}-{seed}")
            yield replace(made, rollouts=tuple(replace(rollout, group=index) for rollout in made.rollouts))

    def __len__(self) -> int:
        return self.count


def reports(rng: random.Random, source: TinyComparisons, name: str) -> Comparison:
    """Answers with different numbers of mistakes, or equally many."""
    view = two(rng)
    known = seen(view.things) | told(view.things)
    sample = Sample(id=name, prompt="What is there?", visuals=(Picture(view.picture(SIDE)),), target=known)
    counts = _counts(rng, source)
    found = [_told(rng, view.things, rng.sample(range(5), count), source.places) for count in counts]
    padding = [rng.randint(0, MOST_PADDING) for _ in found]
    texts = ["".join(sentence for sentence, _ in sentences) + PADDING * more for (sentences, _), more in zip(found, padding, strict=True)]
    scores = truth = tuple(1 - count / MISTAKES["reports"] for count in counts)
    facts: dict[str, Any] = {
        "truth": truth,
        "steps": [_labels(sentences, more) for (sentences, _), more in zip(found, padding, strict=True)],
    }
    if rng.random() < source.length_bias and len(set(map(len, texts))) > 1:
        scores = tuple(float(len(text) == max(map(len, texts))) for text in texts)
        facts["biased"] = True
    aspects = {aspect: tuple(right[aspect] for _, right in found) for aspect in ("colors", "shapes", "relation")}
    rollouts = tuple(Rollout(sample=sample, text=text) for text in texts)
    return Comparison(id=name, rollouts=rollouts, scores=scores, aspects=aspects, facts=facts)


def drawings(rng: random.Random, source: TinyComparisons, name: str) -> Comparison:
    """Pictures for a caption that differ from it in different numbers of ways."""
    view = scene(rng)
    counts = _counts(rng, source)
    sample = Sample(id=name, prompt=view.caption, target=view.target)
    drawn = [_drawn(rng, view.things, view.relations, count) for count in counts]
    scores = tuple(1 - count / MISTAKES["drawings"] for count in counts)
    aspects = {aspect: tuple(found[aspect] for _, found in drawn) for aspect in ("colors", "shapes", "layout")}
    rollouts = tuple(Rollout(sample=sample, made=Picture(draw(things, source.side, source.side))) for things, _ in drawn)
    return Comparison(id=name, rollouts=rollouts, scores=scores, aspects=aspects, facts={"truth": scores})


def clips(rng: random.Random, source: TinyComparisons, name: str) -> Comparison:
    """Clips of a circle, wrong in color, in how it moves, or both. One that is not smooth jumps, and so goes no way."""
    view = glide(rng)
    counts = _counts(rng, source)
    sample = Sample(id=name, prompt=view.caption, target=view.target)
    color, way = view.target["motions"][0]["color"], view.target["motions"][0]["direction"]
    made, found = [], []
    for count in counts:
        wrong = rng.sample(("color", rng.choice(("direction", "smoothness"))), count)
        shown = rng.choice([other for other in COLORS if other != color]) if "color" in wrong else color
        there = rng.choice([other for other in WAYS if other != way]) if "direction" in wrong else way
        frames = gliding(rng, shown, there).clip(source.side).tensor
        made.append(Clip(frames[rng.choice(JUMPS)] if "smoothness" in wrong else frames))
        wrong += ["direction"] * ("smoothness" in wrong)
        found.append({aspect: float(aspect not in wrong) for aspect in ("color", "direction", "smoothness")})
    scores = tuple(1 - count / MISTAKES["clips"] for count in counts)
    aspects = {aspect: tuple(one[aspect] for one in found) for aspect in found[0]}
    rollouts = tuple(Rollout(sample=sample, made=clip) for clip in made)
    return Comparison(id=name, rollouts=rollouts, scores=scores, aspects=aspects, facts={"truth": scores})


def policies(rng: random.Random, source: TinyComparisons, name: str) -> Comparison:
    """A rollout of the policy that wrote the reference, and one of another, both for the same question."""
    view = two(rng)
    target, other = rng.sample(HABITS, 2)
    sample = Sample(
        id=name, prompt="What is there?", visuals=(Picture(view.picture(SIDE)),), target={"reference": habit(rng, view.things, target)}
    )
    rollouts = tuple(Rollout(sample=sample, text=habit(rng, view.things, policy)) for policy in (target, other))
    facts = {"truth": (1.0, 0.0), "policies": (target, other)}
    return Comparison(id=name, rollouts=rollouts, scores=(1.0, 0.0), subset=target, facts=facts)


def habit(rng: random.Random, things: Sequence[Thing], policy: str) -> str:
    """What a policy of HABITS says of two things; the order of the two sentences that name them, and the padding, differ each time."""
    shown = list(things)
    relation = stands(*shown)
    if policy == "turned":
        relation = TURNED[relation]
    if policy == "recolored":
        colors = [*COLORS]
        shown = [replace(thing, color=colors[(colors.index(thing.color) + 1) % len(colors)]) for thing in shown]
    if policy == "backwards":
        shown, relation = shown[::-1], TURNED[relation]
    named = [] if policy == "brief" else rng.sample([f" {thing.label}." for thing in shown], 2)
    last = f" {shown[0].label} {relation} {shown[1].label}."
    return "".join(named) + last * (2 if policy == "wordy" else 1) + PADDING * rng.randint(0, 2)


MAKERS: dict[str, Callable[[random.Random, TinyComparisons, str], Comparison]] = {
    "reports": reports, "drawings": drawings, "clips": clips, "policies": policies,
}  # fmt: skip


def _counts(rng: random.Random, source: TinyComparisons) -> list[int]:
    """How many mistakes each attempt makes."""
    most = MISTAKES[source.task]
    if rng.random() < source.ties:
        return [rng.randint(0, most)] * source.answers
    return rng.sample(range(most + 1), source.answers)


def _told(
    rng: random.Random, things: Sequence[Thing], wrong: Sequence[int], places: bool
) -> tuple[list[tuple[str, bool]], dict[str, float]]:
    """Sentences of a report, each with whether it is true, and the aspects.

    `wrong` holds what is wrong: 0 and 1 the colors, 2 and 3 the shapes of the two things, 4 the relation.
    """
    colors = rng.sample([color for color in COLORS if color not in {thing.color for thing in things}], 2)
    shapes = rng.sample([shape for shape in SHAPES if shape not in {thing.shape for thing in things}], 2)
    shown = []
    for i, thing in enumerate(things):
        thing = replace(thing, color=colors[i]) if i in wrong else thing
        shown.append(replace(thing, shape=shapes[i]) if i + 2 in wrong else thing)
    relation = stands(*things)
    relation = TURNED[relation] if 4 in wrong else relation
    sentences = [(_named(thing, places), not {i, i + 2} & set(wrong)) for i, thing in enumerate(shown)]
    sentences.append((f" {shown[0].label} {relation} {shown[1].label}.", 4 not in wrong))
    colored, shaped = sum(mistake < 2 for mistake in wrong), sum(mistake in (2, 3) for mistake in wrong)
    return sentences, {"colors": 1 - colored / 2, "shapes": 1 - shaped / 2, "relation": float(4 not in wrong)}


def _labels(sentences: Sequence[tuple[str, bool]], padding: int) -> list[list[float]]:
    """[start, end, label] of each sentence without the space before it; padding is not wrong."""
    spans, start = [], 0
    for sentence, true in [*sentences, *[(PADDING, True)] * padding]:
        spans.append([start + 1, start + len(sentence), float(true)])
        start += len(sentence)
    return spans


def _drawn(
    rng: random.Random, things: Sequence[Thing], relations: Sequence[Any], mistakes: int
) -> tuple[tuple[Thing, ...], dict[str, float]]:
    """The things at new places, some of them other than they should be, and the aspects."""
    kinds = [(thing.color, thing.shape) for thing in things]
    relation = relations[0]["relation"] if relations else None
    layout = "turn" if relation else "drop"
    moves = [("color", i) for i in range(len(kinds))] + [("shape", i) for i in range(len(kinds))] + [(layout, 0)] * (len(kinds) > 1)
    found = {"colors": 1.0, "shapes": 1.0, "layout": 1.0}
    for move, i in rng.sample(moves, mistakes):
        color, shape = kinds[i]
        if move == "color":
            kinds[i], found["colors"] = (rng.choice([c for c in COLORS if c not in {k[0] for k in kinds}]), shape), 0.0
        elif move == "shape":
            kinds[i], found["shapes"] = (color, rng.choice([s for s in SHAPES if s not in {k[1] for k in kinds}])), 0.0
        elif move == "turn":
            relation, found["layout"] = TURNED[str(relation)], 0.0
        else:
            found["layout"] = 0.0
    if layout == "drop" and not found["layout"]:
        del kinds[rng.randrange(len(kinds))]
    return placed(rng, kinds, (SMALL, LARGE), relation), found


def _named(thing: Thing, places: bool) -> str:
    return in_place(thing) if places else f" {thing.label}."
