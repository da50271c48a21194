"""VisualProcessBench: labels of steps, the threshold that calls one right, and critics that judge steps themselves."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from benchmarks import World

from vlreward.bench.base import Benchmark
from vlreward.bench.benchmarks.visual_process_bench import called_right, threshold
from vlreward.bench.run import Bench, bench
from vlreward.config import parse
from vlreward.data.source import BadRow
from vlreward.data.text_steps import steps
from vlreward.rewards.base import Reward
from vlreward.run import Run
from vlreward.types import Comparison, RewardOutput, Segment


def row(folder, texts, labels, **more):
    image = World(folder).picture(0, "images")
    return {"image": [image], "question": "Which?", "answer": "B", "response": {"steps": texts, "process_correctness": labels}} | more


def benchmark(folder, rows) -> Benchmark:
    (folder / "test.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return parse(Benchmark, {"kind": "visual_process_bench", "path": str(folder)})


def test_a_step_is_judged_behind_all_before_it_and_one_without_a_thought_is_not(tmp_path):
    [found] = list(benchmark(tmp_path, [row(tmp_path, ["So:", "Two\n\n cats.", "Three."], [0, 1, -1])]))
    assert isinstance(found, Comparison) and found.scores == (1.0, 0.0)
    assert [one.text for one in found.rollouts] == ["So:\n\nTwo\n cats.", "So:\n\nTwo\n cats.\n\nThree."]
    assert [len(steps(one.text or "", "paragraph")) for one in found.rollouts] == [2, 3], "a critic of paragraphs sees the same steps"
    assert found.rollouts[0].sample.target == {"answer": "B"} and len(found.rollouts[0].sample.visuals) == 1


def test_a_solution_of_neutral_steps_alone_is_left_out_and_several_pictures_are_shown(tmp_path):
    two = row(tmp_path, ["a"], [1]) | {"image": [World(tmp_path).picture(k, "images") for k in (0, 1)]}
    [found] = list(benchmark(tmp_path, [row(tmp_path, ["So"], [0]), two]))
    assert isinstance(found, Comparison) and len(found.rollouts[0].sample.visuals) == 2


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        ({"steps": ["a"], "process_correctness": [1, 1]}, "has 1 steps and 2 entries"),
        ({"steps": ["a"], "process_correctness": [2]}, r"is \[2\], expected 1, 0 or -1"),
        ({"steps": [" "], "process_correctness": [1]}, "a step without words"),
        ("step 1", "response is 'step 1', expected its steps"),
        (None, "holds no list of steps"),
    ],
)
def test_labels_that_do_not_fit_are_named(response, problem, tmp_path):
    [bad] = list(benchmark(tmp_path, [row(tmp_path, ["a"], [1]) | {"response": response}]))
    assert isinstance(bad, BadRow)
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(bad.error)


def test_a_response_stored_as_text_is_read(tmp_path):
    packed = json.dumps({"steps": ["a"], "process_correctness": [-1]})
    [found] = list(benchmark(tmp_path, [row(tmp_path, ["a"], [1]) | {"response": packed}]))
    assert isinstance(found, Comparison) and found.scores == (0.0,)


def test_the_threshold_has_the_greatest_macro_f1_of_all():
    draw = np.random.default_rng(0)
    for _ in range(50):
        scores, right = draw.integers(0, 6, 20) / 5, draw.random(20) < 0.7
        best = max(macro(scores >= at, right) for at in [*scores, np.inf])
        assert macro(scores >= threshold(scores, right), right) == pytest.approx(best)


def macro(said, right):
    return sum(2 * (said & right).sum() / max((said.sum() + right.sum()), 1) for said, right in ((said, right), (~said, ~right))) / 2


def test_the_threshold_is_fitted_on_the_other_half():
    scores, right = np.array([0.4, 0.6, 0.8, 0.9]), np.array([False, True, False, True])
    assert called_right(scores, right, np.array([0, 0, 1, 1])).tolist() == [False, False, True, True]


@dataclass(kw_only=True)
class StepJudge(Reward):
    """Says that a step is right if it ends in 'cats.', as segments; its score is their mean."""

    kind = "step judge"

    def batch(self, rollouts):
        texts = [rollout.text or "" for rollout in rollouts]
        segments = [
            [Segment(start=a, end=b, reward=float(text[a:b].endswith("cats."))) for a, b in steps(text, "paragraph")] for text in texts
        ]
        scores = torch.tensor([sum(one.reward for one in some) / len(some) for some in segments])
        return RewardOutput(scores=scores, segments=segments)


def test_of_a_critic_of_steps_the_last_segment_counts(tmp_path):
    rows = [row(tmp_path, ["Two cats.", "No.", f"Four {k} cats."], [1, -1, 1]) for k in range(4)]
    config = Bench(run=Run(name="b", folder=tmp_path), critics={"a": StepJudge()}, benchmark=benchmark(tmp_path, rows), baselines=False)
    folder = bench(config, resume=False, fresh=False).path
    assert [json.loads(line)["scores"] for line in (folder / "judgements.jsonl").read_text().splitlines()] == [[1.0, 0.0, 1.0]] * 4
    figures = json.loads((folder / "summary.json").read_text())["bench"]["visual_process_bench"]["critics"]["a"]["figures"]
    assert figures["macro f1"]["value"] == 1 and figures["step pairs"]["value"] == 1
