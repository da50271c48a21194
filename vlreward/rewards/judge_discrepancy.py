"""A judge that lists in what a picture differs from the one it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vlreward.critics.parsing import entry, severities
from vlreward.data.media import Clip, Picture
from vlreward.errors import DataError, RewardError
from vlreward.models.judge import Judge, Turn
from vlreward.registry import register
from vlreward.rewards.base import explain
from vlreward.rewards.drawn import read_source
from vlreward.rewards.fault_matching import PARTS, Faults, counts, known_faults, matches, question
from vlreward.rewards.judge_base import Judging, Vote, column, decode, noted
from vlreward.sandbox.pool import Drawing, Kind, shared
from vlreward.types import RewardOutput, Rollout

MOST = 50.0
"""Severities that add up to this, or more, leave nothing of the second point."""
SOURCES: dict[str, tuple[str, Kind]] = {"code": ("code", "python"), "svg": ("svg", "svg")}


@register("judge_discrepancy")
@dataclass(kw_only=True)
class JudgeDiscrepancy(Judging):
    """1 + clip(1 - S / 50, 0, 1), where S sums the severities 1 to 3 of the faults a judge lists; 0 for what draws nothing. In [0, 2].

    Two pictures are compared: with `draws: code` (a matplotlib script) or `svg` what the answer's source draws, in the sandbox, and the
    picture that `target.code` or `target.svg` draws, else the sample's; without it what was made, and the sample's first picture. A
    script that fails or leaves the page empty scores 0 and is not shown to the judge. NaN where there is no reference. The list is the
    note, from which `eval.choose: {kind: verify_retry}` asks for a revision. An unreadable list is asked for once more and then breaks
    the row: a judge's failure is no faultless picture, and no bad one either. With `matcher`, another judge that reads, the list is held
    against people's, `target.faults`, and the parts say how many were `matched`, only hinted at (`partly`), `surplus` and `missed`.

    Source: Visual-ERM, arXiv 2603.13224: faults in rendered space with severities 1 to 3, 1 + clip(1 - sum / 50), 0 where rendering
    fails. Its own code counts an unreadable list as 25 of 50, and in its variant for tables as 4, which beats an honest list of three.

    Known cheats: a page that hides its faults from a small picture (render large, weigh in `chart_rules`); text to the judge in the
    drawing (not defended); an empty page (0).
    """

    places = ("reference", "attempt")
    offered = ()
    draws: Literal["code", "svg"] | None = None
    matcher: Judge | None = None
    """Who says which listed faults are those of `target.faults` (of the `vc_reward_bench`); the score does not hang on it."""

    def __post_init__(self):
        super().__post_init__()
        self.waits = self.judge.waits or (self.matcher is not None and self.matcher.waits)  # type: ignore[misc]

    def load(self, device: str) -> None:
        super().load(device)
        if self.draws:
            shared().start()

    def stop(self) -> None:
        super().stop()
        if self.matcher:
            self.matcher.stop()
        if self.draws:
            shared().stop()

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        output = RewardOutput(scores=column(len(rollouts)), parts={"severity": column(len(rollouts))})
        drawings = self.drawn(rollouts)
        questions: dict[int, Sequence[Turn]] = {}
        listed: dict[int, Faults] = {}
        for row, rollout in enumerate(rollouts):
            try:
                pictures = self.pictures(rollout, drawings)
                if isinstance(pictures, str):
                    output.scores[row], output.notes[row] = 0.0, pictures
                elif pictures:
                    asked = self.shown(self._template.fill({"reference": pictures[:1], "attempt": pictures[1:]}, self.frames))
                    decode([asked])
                    questions[row] = asked
            except (DataError, RewardError) as error:
                output.errors[row] = explain(error)
        for row, votes in zip(questions, self.ask([*questions.values()], lambda answer: sum(severities(answer.text))), strict=True):
            if isinstance(votes, RewardError):
                output.errors[row] = str(votes)
                continue
            total = sum(vote.value for vote in votes) / len(votes)
            output.scores[row] = 1 + min(max(1 - total / MOST, 0.0), 1.0)
            output.parts["severity"][row] = total
            output.notes[row] = noted(votes[-1].text)
            listed[row] = entry(votes[-1].text, "errors")
        self.match(rollouts, output, listed)
        return output

    def match(self, rollouts: Sequence[Rollout], output: RewardOutput, listed: dict[int, Faults]) -> None:
        """Hold each row's list against people's, where there is a matcher and the row has one."""
        if self.matcher is None:
            return
        output.parts |= {name: column(len(rollouts)) for name in PARTS}
        pairs: dict[tuple[int, int], list[tuple[int, Faults]]] = {}
        for row, faults in listed.items():
            try:
                known = known_faults(rollouts[row].sample.target)
            except DataError as error:
                output.errors[row] = explain(error)
                continue
            if known is not None:
                pairs.setdefault((len(faults), len(known)), []).append((row, known))
        for (count, wanted), rows in pairs.items():
            asked = [self.shown(question(listed[row], known)) for row, known in rows if count and wanted]
            votes = self.ask(asked, lambda answer, a=count, b=wanted: matches(answer.text, a, b), who=self.matcher)
            for place, (row, _) in enumerate(rows):
                found = votes[place] if votes else [Vote(counts(0, 0, count, wanted), "")]
                if isinstance(found, RewardError):
                    output.errors[row], output.scores[row] = str(found), float("nan")
                    continue
                for name in PARTS:
                    output.parts[name][row] = sum(vote.value[name] for vote in found) / len(found)

    bounds = (0.0, 2.0)

    def drawn(self, rollouts: Sequence[Rollout]) -> dict[str, Drawing]:
        """What each distinct source of a batch draws."""
        if not self.draws:
            return {}
        key, language = SOURCES[self.draws]
        wanted = [rollout.sample.target.get(key) for rollout in rollouts]
        answers = [read_source(rollout.text) for rollout in rollouts if rollout.text is not None]
        sources = list(dict.fromkeys([*answers, *(source for source in wanted if isinstance(source, str))]))
        return dict(zip(sources, shared().run(sources, language), strict=True)) if sources else {}

    def pictures(self, rollout: Rollout, drawings: dict[str, Drawing]) -> tuple[Picture, Picture] | str | None:
        """Reference and attempt; why the attempt draws nothing; or None where there is nothing to compare. Raises DataError."""
        visuals = rollout.sample.visuals
        given = visuals[0] if visuals else None
        if isinstance(given, Clip):
            raise DataError("the sample holds a clip, expected a picture")
        if not self.draws:
            if given is None or rollout.made is None:
                return None
            if isinstance(rollout.made, Clip):
                raise DataError("a clip was made, expected a picture")
            return given, rollout.made
        source = rollout.sample.target.get(SOURCES[self.draws][0])
        if rollout.text is None or (source is None and given is None):
            return None
        reference = given
        if source is not None:
            wanted = drawings.get(source)
            if wanted is None or not wanted.drawn:
                raise DataError(f"target.{SOURCES[self.draws][0]} draws nothing")
            reference = Picture(wanted.pixels)
        made = drawings[read_source(rollout.text)]
        if made.outcome == "broken":
            raise RewardError(f"the sandbox failed: {made.message}")
        if not made.drawn:
            return f"{made.outcome}: {made.message or 'an empty page'}"
        assert reference is not None, "there is a source or a picture"
        return reference, Picture(made.pixels)
