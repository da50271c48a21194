"""Stages follow each other within one run, each with its data, its rewards and its order."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from vlreward.errors import ConfigError, DataError
from vlreward.run import RunFolder, quiet
from vlreward.types import Sample
from vlreward.vlm.policy import read
from vlreward.vlm.record import Record
from vlreward.vlm.rolling import fresh
from vlreward.vlm.sampler import PromptSampler, SortedSampler, WeightedSampler
from vlreward.vlm.stages import Leg, Order, course, ends, one_stream
from vlreward.vlm.train import train
from vlreward.vlm.trainer import VLGRPOTrainer

GROUNDING = {"kind": "tiny", "task": "grounding", "count": 4}
COLOR = {"kind": "tiny", "task": "color", "count": 3}


def leg(start: int, stop: int, share: float = 1.0) -> Leg:
    return Leg(rows=range(start, stop), rewards=SimpleNamespace(), share=share)  # type: ignore[arg-type]


def test_a_staged_run_learns_from_each_stages_samples_by_its_rewards_and_is_measured_by_the_runs(small):
    held_out = {"kind": "tiny", "task": "grounding", "count": 4, "holdout": True}
    stages = [{"data": COLOR, "rewards": [{"kind": "exact_match"}]}, {"data": GROUNDING, "share": 2}]
    folder = train(small(data=None, stages=stages, eval={"data": held_out}, optim={"lr": 1e-3, "steps": 3}))
    first, *later = folder.read("metrics.jsonl")
    assert "reward/exact_match" in first
    assert "reward/box_iou" not in first
    assert all("reward/box_iou" in row and "reward/exact_match" not in row for row in later)
    assert [row["stage"] for row in (first, *later)] == [1, 2, 2]
    trained = [row for row in folder.read("rollouts.jsonl") if row["phase"] == "train"]
    assert {(row["step"], row["id"].split("-")[0]) for row in trained} == {(1, "color"), (2, "grounding"), (3, "grounding")}
    assert folder.read("evaluation_after.jsonl")[0]["scores"].keys() == {"box_iou", "answer_format"}


def test_fresh_prompts_come_from_the_stage_that_a_step_is_in(small):
    stages = [{"data": COLOR, "rewards": [{"kind": "exact_match"}]}, {"data": GROUNDING}]
    config = small(data=None, stages=stages, sampling={"rounds": 2})
    samples, legs = course(config)
    with quiet("transformers", "datasets"):
        made = VLGRPOTrainer(config, RunFolder.open(config.run, "train-vlm", config), *read(config.policy.model), samples, legs)
    assert sorted(fresh(made, 9, {0}, 1)) == [1, 2]
    made.batches = 1
    assert sorted(fresh(made, 9, {4}, 1)) == [3, 5, 6]


def test_steps_are_shared_out_in_proportion_and_the_stream_stays_one():
    assert ends([1, 1, 2], 8) == [2, 4, 8]
    assert ends([2, 1], 10) == [7, 10]
    rows = list(one_stream([leg(0, 5), leg(5, 9, share=2.0)], batches=6, prompts=2, size=3, repeats=2, seed=0))
    batches = [rows[i : i + 6] for i in range(0, len(rows), 12)]
    assert len(batches) == 6
    assert all(set(batch) <= set(range(5)) for batch in batches[:2])
    assert all(set(batch) <= set(range(5, 9)) for batch in batches[2:])
    assert all(len(set(batch)) == 2 for batch in batches)
    assert Counter(row for batch in batches[2:] for row in batch) == dict.fromkeys(range(5, 9), 6), "two passes over the second stage"


def test_one_stage_is_the_plain_stream():
    plain = PromptSampler(num_rows=7, prompts=3, size=2, repeats=2, chunks=4, seed=0)
    assert list(one_stream([leg(0, 7)], batches=4, prompts=3, size=2, repeats=2, seed=0)) == list(plain)


def test_a_stage_too_short_for_a_batch_is_refused():
    with pytest.raises(ConfigError, match="of the run's 3 batches is not one") as caught:
        one_stream([leg(0, 5, share=0.01), leg(5, 9)], batches=3, prompts=2, size=3, repeats=2, seed=0)
    assert caught.value.key == "stages.0.share"


@pytest.mark.parametrize("chunks", [2, 5, 10, 23, 60])
def test_rising_order_goes_from_the_lowest_to_the_highest_over_any_number_of_steps(chunks):
    numbers = [(7 * row) % 20 for row in range(20)]
    sampler = SortedSampler(20, 2, 3, 1, chunks, 0, numbers=numbers)
    chosen = [[numbers[row] for row in sampler.chosen(chunk)] for chunk in range(chunks)]
    assert all(len(set(batch)) == 2 for batch in chosen)
    middles = [sum(batch) / 2 for batch in chosen]
    width = max(2, 20 / chunks)
    assert all(abs(middle - 20 * (place + 0.5) / chunks) <= width for place, middle in enumerate(middles))
    if chunks == 10:
        assert [sorted(batch) for batch in chosen] == [[2 * place, 2 * place + 1] for place in range(10)], "one pass, each sample once"


def test_weighted_order_asks_a_sample_as_often_as_its_number_is_large():
    sampler = WeightedSampler(4, 1, 1, 1, 4000, 0, numbers=[1.0, 3.0, 0.0, 4.0])
    count = Counter(sampler)
    assert count[2] == 0
    assert [count[row] / 4000 for row in (0, 1, 3)] == pytest.approx([1 / 8, 3 / 8, 4 / 8], abs=0.03)
    assert all(len(set(WeightedSampler(4, 3, 1, 1, 5, 0, numbers=[1.0, 3.0, 0.0, 4.0]).chosen(chunk))) == 3 for chunk in range(5))


def test_order_of_the_configuration_reaches_the_stream(small):
    data = {"kind": "tiny", "task": "tally", "count": 12}
    rewards = [{"kind": "count_match"}]
    for how, sign in (("rising", 1), ("falling", -1)):
        samples, legs = course(small(data=data, rewards=rewards, order={"by": "answer", "how": how}))
        asked = [int(samples[row].target["answer"]) for row in one_stream(legs, batches=6, prompts=2, size=1, repeats=1, seed=0)]
        means = [sum(asked[i : i + 2]) / 2 for i in range(0, 12, 2)]
        assert means == sorted(means, key=lambda mean: sign * mean)
        assert means[0] != means[-1]


def test_a_sample_without_the_number_is_refused():
    samples = [Sample(id="a.jsonl:1", prompt="?", target={"rate": 0.5}), Sample(id="a.jsonl:2", prompt="?", target={"rate": "high"})]
    with pytest.raises(DataError, match=r"a\.jsonl:2: target\.rate is 'high', expected a number to order by"):
        Order(by="rate").numbers(samples)
    with pytest.raises(DataError, match="at least 0"):
        Order(by="rate", how="weighted").numbers([Sample(id="b", prompt="?", target={"rate": -1})])


def test_stages_without_data_of_their_own_or_the_runs_are_refused(small):
    with pytest.raises(ConfigError, match="the key 'data' is missing"):
        small(data=None)
    with pytest.raises(ConfigError, match="here and in the run") as caught:
        small(data=None, stages=[{"data": COLOR}, {"share": 2}])
    assert caught.value.key == "stages.1"
    with pytest.raises(ConfigError, match=r"'box_iou' needs 'target.boxes', which no sample of `stages.1.data` has") as caught:
        course(small(stages=[{}, {"data": COLOR}]))
    with pytest.raises(ConfigError, match="has 1 samples, but a step takes") as caught:
        course(small(data=None, stages=[{"data": GROUNDING | {"count": 1}}]))
    assert caught.value.key == "stages.0.data"


def test_what_looks_like_cheating_is_looked_for_within_a_stage(small, tmp_path):
    folder = RunFolder.open(small().run, "train-vlm", small())
    trainer = SimpleNamespace(folder=folder, legs=[SimpleNamespace(rewards=small().rewards)] * 2)
    record = Record(trainer)  # type: ignore[arg-type]
    record.said = set()
    record.rows = [{"reward/total": 1.0, "length": 10.0, "stage": 1.0}] * 20 + [{"reward/total": 1.0, "length": 40.0, "stage": 2.0}] * 20
    record.warn(40)
    assert folder.read("notices.jsonl") == []
    record.rows += [{"reward/total": 1.0, "length": 90.0, "stage": 2.0}] * 10
    record.warn(50)
    assert [row["kind"] for row in folder.read("notices.jsonl")] == ["length"]
