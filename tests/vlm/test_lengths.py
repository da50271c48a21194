"""Length rewards in training: tokens are counted where text is generated, and what a reward remembers comes back with a checkpoint."""

from __future__ import annotations

import pytest
import torch

from vlreward.run import RunFolder, quiet
from vlreward.tiny.tasks import HOLDOUT, make
from vlreward.vlm.evaluate import answer, num_tokens
from vlreward.vlm.policy import read
from vlreward.vlm.train import train
from vlreward.vlm.trainer import VLGRPOTrainer

REWARDS = [
    {"kind": "text_length", "weight": 0.0},
    {"kind": "length_history", "correct": "answer_format", "at_least": 0.0, "unit": "characters"},
]


def test_trainer_tells_rewards_how_many_tokens_trl_generated(small):
    config = small(rewards=REWARDS[:1])
    seen = []
    with quiet("transformers", "datasets"):
        made = VLGRPOTrainer(config, RunFolder.open(config.run, "train-vlm", config), *read(config.policy.model), config.data.samples())
        score = config.rewards.terms[0].reward.score
        config.rewards.terms[0].reward.score = lambda rollouts, device: seen.extend(rollouts) or score(rollouts, device)
        out = made._generate_and_score_completions([{"row": row, "prompt": []} for row in [0] * 3 + [1] * 3])
    assert [rollout.num_tokens for rollout in seen] == out["completion_mask"].sum(1).tolist()
    assert made.table.scores[:, 0].tolist() == [rollout.num_tokens for rollout in seen]
    assert made.table.total.isnan().all(), "a term of weight 0 only watches"


def test_evaluation_counts_tokens_as_the_trainer_does():
    policy, processor = read("assets/tiny-vlm")
    samples = [make("grounding", HOLDOUT + seed) for seed in range(6)]
    rollouts = answer(policy, processor, samples, temperature=0.0, max_new_tokens=40, batch=4, seed=0)
    for rollout in rollouts:
        written = len(processor.tokenizer(rollout.text, add_special_tokens=False)["input_ids"])
        assert rollout.num_tokens in (written, written + 1)
    assert any(rollout.num_tokens < 40 for rollout in rollouts), "one of them ends by itself"


@pytest.mark.parametrize(("ends", "wanted"), [(9, [3, 1, 4]), ([9, 2], [2, 1, 2]), (None, [4, 4, 4])])
def test_tokens_are_counted_up_to_the_first_end(ends, wanted):
    assert num_tokens(torch.tensor([[1, 2, 9, 9], [9, 0, 0, 9], [1, 2, 3, 4]]), ends) == wanted


class Stopped(Exception):
    pass


def test_resumed_run_remembers_the_shortest_answers_so_far(small, monkeypatch):
    blocks = {
        "rewards": REWARDS,
        "optim": {"lr": 1e-3, "steps": 4, "save_every": 2},
        "data": {"kind": "tiny", "task": "grounding", "count": 3},
    }
    whole = train(small("whole", **blocks))
    log = RunFolder.log

    def stop(self, step, **figures):
        if step == 4:
            raise Stopped
        log(self, step, **figures)

    monkeypatch.setattr(RunFolder, "log", stop)
    with pytest.raises(Stopped):
        train(small("stopped", **blocks))
    monkeypatch.setattr(RunFolder, "log", log)
    resumed = train(small("stopped", **blocks), resume=True)
    rows = [[{k: v for k, v in row.items() if not k.startswith("time/")} for row in f.read("metrics.jsonl")] for f in (whole, resumed)]
    assert rows[0] == rows[1]
    assert len({row["reward/length_history"] for row in rows[0]}) > 1
