"""A question is answered by four agents: one plans, one executes, one judges, one answers; each spends what its task is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from vlreward.models.folders import adapted_folders
from vlreward.registry import register
from vlreward.types import Rollout, Sample
from vlreward.vlm import policy
from vlreward.vlm.choosers.base import Choice, Judged, best
from vlreward.vlm.choosers.roles import Answering, Execution, Judgement, Planning, Role, steps_of
from vlreward.vlm.writing import Writer


@dataclass
class Path:
    """One plan for a sample, and how far it has come."""

    number: int
    """Of its sample in the part."""
    sample: Sample
    relevant: str = ""
    steps: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    """Of the steps that were carried out."""
    scores: list[float] = field(default_factory=list)
    """Of these results."""
    mistake: str = ""
    """What the judge found last; empty where nothing, or before it was asked."""
    mended: list[str] = field(default_factory=list)
    """Every process that was given up, with what was wrong about it."""

    @property
    def process(self) -> str:
        """Each step that was carried out, with what came of it."""
        return "\n".join(f"{step} {result}" for step, result in zip(self.steps, self.results, strict=False))


@register("agents")
@dataclass(kw_only=True)
class Agents(Judged):
    """A planning, an execution, a judgement and an answering agent work on each sample, with a budget each of its own kind.

    `planning.paths` plans are followed side by side; each step is carried out `execution.candidates` times, and what the rewards in `by`
    like best is kept; the judge, who writes at least `judgement.thinking` tokens, sends a wrong plan back to be planned and a wrong process
    to be carried out again, with its mistake, up to `judgement.corrections` times. Of a sample's paths the one that the judge passed, and
    of several the one whose steps scored highest, goes with its mended mistakes to the answering agent, which writes once.

    Each role has a prompt, and may have a policy (`model`) of its own. A reward that sees one step (a process reward model as
    `yes_probability`, `agreement` of the candidates, `text_likelihood`) belongs into `by`.

    Source: MACT, arXiv 2508.03404, without its library of tools. It leaves open how one of several paths is taken; that is ours.
    """

    planning: Planning = field(default_factory=Planning)
    execution: Execution = field(default_factory=Execution)
    judgement: Judgement = field(default_factory=Judgement)
    answering: Answering = field(default_factory=Answering)

    def check(self) -> None:
        for name, role in self._roles.items():
            if role.model is not None:
                adapted_folders(role.model, f"eval.choose.{name}.model")

    @property
    def _roles(self) -> dict[str, Role]:
        return {"planning": self.planning, "execution": self.execution, "judgement": self.judgement, "answering": self.answering}

    def choose(self, writer: Writer, samples: Sequence[Sample], done: Callable[[int], None] = lambda count: None) -> list[Choice]:
        cast = Cast(writer, self._roles)
        choices: list[Choice] = []
        for first, part in writer.batches(samples, self.planning.paths):
            cast.begin(f"choose/{first}", len(part))
            paths = self._planned(cast, part)
            self._execute(cast, paths, "execute")
            self._correct(cast, paths)
            taken = [self._taken([path for path in paths if path.number == number]) for number in range(len(part))]
            asked = [
                self.answering.ask(
                    path.sample, process=path.process, mistakes="\n".join(path.mended), mistake=path.mended[-1] if path.mended else ""
                )
                for path in taken
            ]
            for path, [rollout] in zip(taken, cast.say("answering", "answer", taken, asked, 1), strict=True):
                answer = replace(rollout, sample=path.sample, group=first + path.number)
                choices.append(Choice(answer, cast.tokens[path.number], cast.texts[path.number]))
            done(len(part))
        return choices

    def _planned(self, cast: Cast, part: Sequence[Sample]) -> list[Path]:
        """So many paths of each sample, one behind the other, each with a plan of its own."""
        one = [Path(number, sample) for number, sample in enumerate(part)]
        size = self.planning.paths
        paths = [Path(path.number, path.sample) for path in one for _ in range(size)]
        if self.planning.relate:
            asked = [self.planning.ask(path.sample, self.planning.relate) for path in one]
            said = [rollout for several in cast.say("planning", "relate", one, asked, size) for rollout in several]
            for path, rollout in zip(paths, said, strict=True):
                path.relevant = rollout.text or ""
            self._plan(cast, paths, "plan")
            return paths
        said = cast.say("planning", "plan", one, [self.planning.ask(path.sample) for path in one], size)
        for path, rollout in zip(paths, [rollout for several in said for rollout in several], strict=True):
            path.steps = steps_of(rollout.text or "", self.planning.steps)
        return paths

    def _plan(self, cast: Cast, paths: Sequence[Path], stage: str) -> None:
        asked = [self.planning.ask(path.sample, relevant=path.relevant, mistake=path.mistake) for path in paths]
        for path, [rollout] in zip(paths, cast.say("planning", stage, paths, asked, 1), strict=True):
            path.steps = steps_of(rollout.text or "", self.planning.steps)

    def _execute(self, cast: Cast, paths: Sequence[Path], stage: str) -> None:
        """Carry out all steps of the paths, each with the best of its candidates."""
        for path in paths:
            path.results, path.scores = [], []
        for number in range(max(len(path.steps) for path in paths)):
            going = [path for path in paths if number < len(path.steps)]
            asked = [self.execution.ask(path.sample, step=path.steps[number], results=path.process, mistake=path.mistake) for path in going]
            size = self.execution.candidates
            said = [one for several in cast.say("execution", f"{stage}/{number}", going, asked, size) for one in several]
            scores, _ = self.judge(said, cast.device)
            for place, path in enumerate(going):
                row = best(scores, range(place * size, (place + 1) * size))
                path.results.append(said[row].text or "")
                path.scores.append(scores[row])

    def _correct(self, cast: Cast, paths: Sequence[Path]) -> None:
        """Send back what the judge finds wrong, as often as is allowed; what is written last is judged too, for the choice of a path."""
        left, most = list(paths), self.judgement.corrections
        for turn in range(most + 1 if most else 0):
            asked = [self.judgement.ask(path.sample, plan="\n".join(path.steps), process=path.process) for path in left]
            verdicts = [self.judgement.read(rollout.text or "") for [rollout] in cast.say("judgement", f"judge/{turn}", left, asked, 1)]
            for path, (_, mistake) in zip(left, verdicts, strict=True):
                path.mistake = mistake
            wrong = {kind: [path for path, (verdict, _) in zip(left, verdicts, strict=True) if verdict == kind] for kind in REWRITTEN}
            left = [path for found in wrong.values() for path in found]
            if not left or turn == most:
                return
            for path in left:
                path.mended.append(f"{path.process}\n{path.mistake}")
            if wrong["plan"]:
                self._plan(cast, wrong["plan"], f"plan/{turn}")
            self._execute(cast, left, f"execute/{turn}")

    @staticmethod
    def _taken(paths: Sequence[Path]) -> Path:
        """The path that is answered from."""
        return max(paths, key=lambda path: (not path.mistake, sum(path.scores) / len(path.scores)))


REWRITTEN = ("plan", "execution")


class Cast:
    """Who plays the roles, and what each sample of a part has cost so far."""

    def __init__(self, writer: Writer, roles: dict[str, Role]):
        self.device = writer.policy.device
        models = {role.model for role in roles.values()} - {None}
        own = {model: policy.read(str(model), str(self.device), half=writer.policy.dtype == torch.bfloat16) for model in models}
        self.writers: dict[str, Writer] = {}
        for name, role in roles.items():
            least = {"least": role.thinking, "instead": role.wait} if isinstance(role, Judgement) else {}
            network, processor = own[role.model] if role.model else (writer.policy, writer.processor)
            self.writers[name] = replace(
                writer, policy=network, processor=processor, max_new_tokens=role.max_new_tokens or writer.max_new_tokens,
                temperature=writer.temperature if role.temperature is None else role.temperature, **least,
            )  # fmt: skip

    def begin(self, seed: str, samples: int) -> None:
        """Count from nothing for a part of so many samples."""
        self.seed, self.tokens, self.texts = seed, [0] * samples, [0] * samples

    def say(self, role: str, stage: str, paths: Sequence[Path], asked: Sequence[Sample], size: int) -> list[list[Rollout]]:
        """`size` texts of a role to each of what it is asked on behalf of a path, in order."""
        writer = self.writers[role]
        said: list[list[Rollout]] = []
        for first, some in writer.batches(asked, size):
            writing = writer.start(some, size, f"{self.seed}/{stage}/{first}", first)
            writing.write()
            rollouts = writing.rollouts
            said += [rollouts[start : start + size] for start in range(0, len(rollouts), size)]
        for path, rollouts in zip(paths, said, strict=True):
            self.texts[path.number] += size
            self.tokens[path.number] += sum(rollout.num_tokens or 0 for rollout in rollouts)
        return said
