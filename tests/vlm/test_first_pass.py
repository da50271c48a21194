"""Several answers to each sample: solve rates, pass@k, and training on what is neither too easy nor too hard."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from vlreward.commands import evaluate
from vlreward.config import resolved
from vlreward.types import RewardOutput, RewardTable, Rollout, Sample
from vlreward.vlm.first_pass import pass_figures, solve_rates
from vlreward.vlm.stages import course

NAN = float("nan")


def table(**scores: list[float]) -> RewardTable:
    columns = {name: torch.tensor(values, dtype=torch.float64) for name, values in scores.items()}
    outputs = {name: RewardOutput(scores=values) for name, values in columns.items()}
    weights = torch.ones(len(columns), dtype=torch.float64)
    return RewardTable(names=tuple(columns), weights=weights, scores=torch.stack([*columns.values()], 1), outputs=outputs)


def test_solve_rate_is_the_share_of_judged_answers_that_reach_the_least_right_score():
    samples = [Sample(id=name, prompt="?") for name in "ab"]
    lengths = [4, 6, 5, 9, 9, 9]
    rollouts = [Rollout(sample=samples[i // 3], text="", group=i // 3, num_tokens=lengths[i]) for i in range(6)]
    judged = table(right=[1.0, 0.4, NAN, NAN, NAN, NAN], form=[0.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    first, second = solve_rates(rollouts, judged, "right", 1.0)
    assert first == {"id": "a", "answers": 3, "judged": 2, "right": 1, "rate": 0.5, "reward": pytest.approx(3.4 / 3), "tokens": 5.0}
    assert (second["judged"], second["rate"], second["tokens"]) == (0, None, 9.0)
    assert solve_rates(rollouts, judged, "right", 0.4)[0]["rate"] == 1.0
    assert solve_rates(rollouts, judged, "form", 1.0)[1]["rate"] == pytest.approx(2 / 3)


def test_pass_at_k_is_averaged_over_samples_and_leaves_out_what_was_not_judged():
    rates = [{"judged": 8, "right": right} for right in (0, 1, 8)] + [{"judged": 0, "right": 0}]
    found = pass_figures(rates)
    assert [*found] == ["1", "2", "4", "8"]
    assert found["1"]["mean"] == pytest.approx((0 + 1 / 8 + 1) / 3)
    assert found["4"]["mean"] == pytest.approx((0 + 1 / 2 + 1) / 3)
    assert found["8"]["mean"] == pytest.approx(2 / 3)
    assert found["8"]["count"] == 3
    assert pass_figures([]) == {}


def test_a_first_pass_chooses_what_the_next_run_learns_from(small, tmp_path, capsys):
    data = {"kind": "tiny", "task": "grounding", "count": 5}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(resolved(small(eval={"data": data, "answers": 3, "right_at": 0.3, "batch": 4}))))
    assert evaluate(str(file), [], False, False) == 0
    folder = tmp_path / "small-eval"
    rates = [json.loads(line) for line in (folder / "solve_rates.jsonl").read_text().splitlines()]
    answered = [json.loads(line) for line in (folder / "evaluation_before.jsonl").read_text().splitlines()]
    assert [row["answers"] for row in rates] == [3] * 5
    assert [row["id"] for row in answered] == [row["id"] for row in rates for _ in range(3)]
    ious = [[row["scores"]["box_iou"] for row in answered[i : i + 3]] for i in range(0, 15, 3)]
    assert [row["rate"] for row in rates] == [sum(iou >= 0.3 for iou in group) / 3 for group in ious]
    assert any(len(set(group)) > 1 for group in ious), "answers to one sample differ"
    held = json.loads((folder / "summary.json").read_text())
    assert held["held_out"]["box_iou"]["count"] == 5, "samples are counted, not answers"
    assert held["held_out"]["box_iou"]["before"] == pytest.approx(sum(map(sum, ious)) / 15)
    assert held["pass_at"]["before"]["1"]["mean"] == pytest.approx(sum(row["rate"] for row in rates) / 5)
    assert f"pass@k before: 1: {held['pass_at']['before']['1']['mean']:.3f}, 2: " in capsys.readouterr().out

    middle = sorted(row["rate"] for row in rates)[2]
    chosen = {"kind": "by_difficulty", "of": data, "rates": str(folder / "solve_rates.jsonl"), "low": middle, "high": 1.0}
    samples, _ = course(small(data=chosen, order={"by": "solve_rate", "how": "falling"}))
    kept = {row["id"]: row["rate"] for row in rates if row["rate"] >= middle}
    assert {sample.id: sample.target["solve_rate"] for sample in samples} == kept
