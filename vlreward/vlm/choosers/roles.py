"""The four agents of `agents`: what each is asked, who plays it, and how much it may write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from vlreward.config import Bound, Count, NotNegative
from vlreward.errors import ConfigError
from vlreward.types import Sample

PLACE = re.compile(r"\{(question|relevant|plan|step|results|process|mistakes|mistake)\}")
NUMBER = re.compile(r"^(?:step\s*)?\d+\s*[.:)]\s*", re.IGNORECASE)
VERDICT = re.compile(r"<verdict>\s*(right|plan|execution)\s*</verdict>", re.IGNORECASE)
MISTAKE = re.compile(r"<mistake>(.*?)</mistake>", re.DOTALL | re.IGNORECASE)

Verdict = Literal["right", "plan", "execution"]


@dataclass(frozen=True, kw_only=True)
class Role:
    """What all agents have. In a prompt the words in braces stand for what is known by then; what agents wrote is never read as such."""

    prompt: str
    again: str = ""
    """Behind the prompt once the judge has found a {mistake}."""
    model: str | None = None
    """The folder of a policy of its own; None is the one that is evaluated."""
    pictures: bool = True
    """Whether it sees the sample's pictures and clips."""
    max_new_tokens: Count | None = None
    """None is `policy.max_new_tokens`."""
    temperature: NotNegative | None = None
    """None is `eval.temperature`."""
    needs: ClassVar[str] = "{question}"

    def __post_init__(self):
        if self.needs not in self.prompt:
            raise ConfigError(f"has no {self.needs}, without which this agent knows nothing of its task", "prompt")

    def ask(self, sample: Sample, prompt: str | None = None, **known: str) -> Sample:
        """The sample with what this agent is asked about it, in its usual prompt or another one."""
        text = (self.prompt if prompt is None else prompt) + (self.again if known.get("mistake") else "")
        told = {"question": sample.prompt, **known}
        asked = PLACE.sub(lambda place: told.get(place.group(1), ""), text)
        return Sample(id=sample.id, prompt=asked, visuals=sample.visuals if self.pictures else (), target=sample.target)


@dataclass(frozen=True, kw_only=True)
class Planning(Role):
    """Says which steps lead to an answer, a line each; several plans are written side by side and followed each."""

    prompt: str = (
        "{question}\n\n{relevant}\n\nPlan how to answer the question about this document. Write the steps as a numbered list, one line a "
        "step: what is to be found or worked out, without doing it."
    )
    again: str = "\n\nA judge found a mistake in an earlier plan: {mistake}"
    relate: str = (
        "{question}\n\nRecall a similar question about a document like this. Write that question, and the steps by which it is answered as "
        "a numbered list."
    )
    """Asks for a similar problem with its plan, which the prompt shows as {relevant} (analogical prompting); '' leaves that out."""
    paths: Count = 4
    """Plans to a question: parallel scaling."""
    steps: Count = 8
    """Of a plan, at most; further lines are left out."""


@dataclass(frozen=True, kw_only=True)
class Execution(Role):
    """Carries out one step after the other. Several candidates of each are written, and the best goes into the next step's prompt."""

    prompt: str = "{question}\n\nFound so far:\n{results}\n\nCarry out this step alone, and say what you found: {step}"
    again: str = "\n\nA judge found a mistake in an earlier attempt: {mistake}"
    candidates: Count = 4
    """Of each step: sequential scaling with a reward."""
    needs: ClassVar[str] = "{step}"


@dataclass(frozen=True, kw_only=True)
class Judgement(Role):
    """Judges a plan and its process, and mends nothing: <verdict>right, plan or execution</verdict>, then <mistake>what is wrong</mistake>.

    Its last verdict counts; a text without one finds nothing wrong.
    """

    prompt: str = (
        "{question}\n\nPlan:\n{plan}\n\nProcess:\n{process}\n\nJudge each step of the plan and of the process; do not correct them. Think "
        "first. Then write <verdict>right</verdict>, <verdict>plan</verdict> or <verdict>execution</verdict> for where the first mistake "
        "is, and behind it, where there is one, the step and what is wrong in <mistake></mistake>."
    )
    pictures: bool = False
    thinking: Annotated[int, Bound(0)] = 0
    """Tokens that it writes at least; where it would end earlier, `wait` stands in place of the end and it goes on (budget forcing)."""
    wait: str = "Wait"
    corrections: Annotated[int, Bound(0)] = 3
    """Times that a plan or its process is written again, at most; 0 asks no judge."""
    needs: ClassVar[str] = "{process}"

    def read(self, text: str) -> tuple[Verdict, str]:
        """The last verdict, and the mistake it names, which is empty where nothing is wrong."""
        found = [*VERDICT.finditer(text)]
        word = found[-1].group(1).lower() if found else "right"
        verdict: Verdict = "plan" if word == "plan" else "execution" if word == "execution" else "right"
        if verdict == "right":
            return verdict, ""
        named = MISTAKE.search(text, found[-1].end())
        return verdict, named.group(1).strip() if named else f"the {verdict} is wrong"


@dataclass(frozen=True, kw_only=True)
class Answering(Role):
    """Gives the answer from what was found, and from the mistakes that were mended on the way. It writes once."""

    prompt: str = "{question}\n\nWhat was found:\n{process}\n\nAnswer the question."
    again: str = "\n\nMistakes that were made on the way and mended:\n{mistakes}"
    pictures: bool = False
    needs: ClassVar[str] = "{process}"


def steps_of(plan: str, most: int) -> list[str]:
    """The lines of a plan without their numbers, in order; the whole plan where it has none."""
    lines = [NUMBER.sub("", line.strip()) for line in plan.splitlines()]
    return [line for line in lines if line][:most] or [plan.strip()]
