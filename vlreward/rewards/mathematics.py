"""Is the answered expression mathematically equal to the reference?"""

from __future__ import annotations

import importlib.util
import json
import re
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from vlreward.config import Count
from vlreward.errors import ConfigError, DataError, RewardError
from vlreward.registry import register
from vlreward.rewards.answers import Answered, normalize, references
from vlreward.types import RewardOutput, Rollout

MAX_CHARACTERS = 1000
"""A longer answer is no single expression and is worth 0."""
READY_SECONDS = 300
"""The worker imports sympy, which a busy machine takes long for."""
MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
NAME = re.compile(r"\\?[A-Za-z]+(?:_(?:\w|\{\w+\}))?(?:\s*\([\w,\s]*\))?")
RELATION = re.compile(r"(?<![<>!\\:])=(?!=)")


@register("math_equal")
@dataclass(kw_only=True)
class MathEqual(Answered):
    """1 if the answered expression equals `target.answer` (or one of several) as mathematics, else 0.

    Read is LaTeX or plain notation: numbers, fractions, roots, sets, tuples, intervals, equations, matrices; 1/2 is 0.5, and {1, 2} is
    {2, 1}. Of an answer with text around it the one formula between dollars, or in a \\\\boxed, counts. `x = 5` answers 5. Compared
    in a process of its own by math-verify; what gives no verdict within `seconds` is worth 0.

    Source: math-verify (Hugging Face), as in open-r1; sympy's equivalence.

    Known cheats: several candidates ('2 or 3' is a set, several formulas 0); an equation whose last side is right (`3 = 2` is 0: left of
    = only a name may stand); an expression that takes for ever to evaluate (killed, 0; R1-Reward's verifier gives 1 where it fails);
    an unsolved expression that equals the result ('5 + 0', or the question itself, is equal by design: ask for a number with
    `numeric_match`). 50 and 0.5 both answer 50 %.

    Example: {text: "<answer>$\\\\frac{1}{2}$</answer>", target: {answer: "0.5"}} -> 1
    """

    seconds: Count = 5

    def load(self, device: str) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise ConfigError("reward 'math_equal' needs the extra 'text': pip install 'vlreward[text]'")

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        verdicts: dict[tuple[str, ...], str] = {}
        scores, notes, errors = [], [], []
        for rollout in rollouts:
            try:
                score, note = self.grade(rollout, verdicts)
                errors.append(None)
            except (DataError, RewardError) as error:
                score, note = float("nan"), ""
                errors.append(str(error))
            scores.append(score)
            notes.append(note)
        return RewardOutput(scores=torch.tensor(scores, dtype=torch.float64), notes=notes, errors=errors)

    def grade(self, rollout: Rollout, verdicts: dict[tuple[str, ...], str]) -> tuple[float, str]:
        """Score and note of one rollout; a comparison that is in `verdicts` is not made again."""
        wanted = [expression(option) or option for option in references(rollout.sample.target)]
        found = self.answer(rollout)
        if found is None:
            return 0.0, "no <answer>...</answer>"
        answer = expression(found)
        if not answer or len(answer) > MAX_CHARACTERS:
            return 0.0, f"not one expression: {found[:80]!r}"
        if normalize(answer) in map(normalize, wanted):
            return 1.0, "equal as written"
        sides = RELATION.split(answer)
        if len(sides) > 1 and not any(RELATION.search(option) for option in wanted):
            if len(sides) > 2 or not NAME.fullmatch(sides[0].strip()):
                return 0.0, "an equation, where an expression was wanted"
            answer = sides[1].strip()
        key = (answer, *wanted)
        if key not in verdicts:
            verdicts[key] = judge().compare(answer, wanted, self.seconds)
        if verdicts[key] == "reference":
            raise DataError(f"target.answer is {rollout.sample.target['answer']!r}, which is no readable expression")
        return float(verdicts[key] == "equal"), f"{answer[:80]!r}: {verdicts[key]}"


def expression(text: str) -> str:
    """The one formula of a text, without delimiters; '' where there is none or several."""
    boxes = text.count("\\boxed")
    if boxes:
        return _boxed(text) if boxes == 1 else ""
    found = [next(part for part in match if part) for match in MATH.findall(text)]
    if not found:
        return text.strip().rstrip(".").strip().strip("$").strip()
    return found[0].strip() if len(found) == 1 else ""


def _boxed(text: str) -> str:
    depth, start = 0, text.find("{", text.index("\\boxed"))
    for place in range(max(start, 0), len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[start + 1 : place].strip() if start >= 0 else ""
    return ""


class Judge:
    """A process that compares expressions and is replaced when it hangs or dies."""

    def __init__(self):
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def compare(self, answer: str, wanted: Sequence[str], seconds: int) -> str:
        """One of math_worker's verdicts. Raises RewardError where the process does not start."""
        with self._lock:
            process = self._start()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps({"wanted": list(wanted), "answer": answer, "seconds": seconds}) + "\n")
                process.stdin.flush()
                line = self._line(process, 4 * seconds)
            except BrokenPipeError:
                line = ""
            if not line:
                self.stop()
                return "late"
            return json.loads(line)

    def _start(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-P", str(Path(__file__).with_name("math_worker.py"))]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, bufsize=1)
            if "ready" not in self._line(self._process, READY_SECONDS):
                self.stop()
                raise RewardError("the process that compares formulas did not start")
        return self._process

    def _line(self, process: subprocess.Popen[str], seconds: float) -> str:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        return process.stdout.readline() if ready else ""

    def stop(self) -> None:
        """End the process; the next comparison starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@cache
def judge() -> Judge:
    """The process shared by all rewards."""
    return Judge()
