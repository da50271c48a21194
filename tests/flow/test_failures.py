"""A reward that fails - with NaN, with an exception, or by not answering - ends no run and moves no policy."""

from __future__ import annotations

import sys
from threading import Event

import pytest
import torch
from gaussian import collected_from, gaussian_velocity, table_of

from vlreward.advantages.group import GroupAdvantage
from vlreward.config import load
from vlreward.errors import ConfigError
from vlreward.flow.config import Align
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.objectives.crd import Crd
from vlreward.flow.objectives.dgpo import Dgpo
from vlreward.flow.objectives.flow_dpo import FlowDpo
from vlreward.flow.objectives.flow_grpo import FlowGrpo
from vlreward.flow.objectives.nft import Nft
from vlreward.flow.train import train
from vlreward.flow.trainer import Trainer

GRPO = "{kind: flow_grpo, clip: 1.0e-3, beta: 0.01}"
REFUSES = "{kind: tests/flow/brightness.py:Failing, groups: 3, epochs: ['', nan, exception, hang]}"


def let_go(config: Align) -> Event:
    """What the reward of a run hangs on."""
    return sys.modules[type(config.rewards.terms[0].reward).__module__].LET_GO


@pytest.mark.parametrize(
    "objective",
    [GRPO, "{kind: nft, beta: 0.1, growth: 0.5}", "{kind: crd, refresh: 3}", "{kind: flow_dpo, beta: 0.1}", "{kind: draft, last: 2}"],
)
def test_an_epoch_in_which_every_judgement_failed_leaves_all_policies_bit_equal(config_text, tmp_path, monkeypatch, objective):
    """One good epoch, so that nothing rests at the start any more, then one of each failure."""
    text = config_text.replace("{kind: tests/flow/brightness.py:Brightness}", REFUSES).replace(GRPO, objective)
    path, after = tmp_path / "run.yaml", []
    path.write_text(text)
    more = ["eval=", "optim.ema=0", "optim.updates=1", "group.micro_batch=4", "judge_seconds=0.2"]
    config, _ = load(path, more, Align)
    monkeypatch.setattr(Trainer, "save", lambda self: after.append({k: v.clone() for k, v in self.policies.state_dict().items()}))
    let_go(config).clear()
    metrics = train(config).read("metrics.jsonl")
    let_go(config).set()
    assert [row["skipped"] for row in metrics] == [0, 1, 1, 1]
    assert [row["broken"] for row in metrics] == [0, 0, 12, 12]
    assert any(weight.abs().max() > 0 for key, weight in after[0].items() if "lora_B" in key)
    for later in after[1:]:
        assert all(torch.equal(weight, after[0][key]) for key, weight in later.items())


def test_a_judge_that_judges_nothing_held_out_ends_the_run_before_anything_is_learned(config_text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        config_text.replace("{kind: tests/flow/brightness.py:Brightness}", REFUSES.replace("'', nan, exception, hang", "exception"))
    )
    config, _ = load(path, [], Align)
    with pytest.raises(ConfigError, match=r"rewards\.0: the judge of .* broke on all of \d+ rollouts"):
        train(config)


@pytest.mark.parametrize(("score", "error"), [(float("nan"), None), (float("nan"), "it broke")])
@pytest.mark.parametrize("objective", [FlowGrpo(), Nft(), FlowDpo(), Dgpo(), Crd()], ids=lambda objective: objective.kind)
def test_a_rollout_without_a_reward_leaves_its_group_and_changes_nothing_else(objective, score, error):
    """The others have the advantages that they have among themselves; of the forward process, it is not trained on either."""
    torch.manual_seed(0)
    collected = collected_from(objective, gaussian_velocity(torch.zeros(3)), FlowSde(), size=4, micro_batch=8)
    scores, errors = torch.rand(8).tolist(), [None] * 8
    lost = collected.groups()[0][1]
    scores[lost], errors[lost] = score, error
    others = [row for row in range(8) if row != lost]
    objective.credit(collected, table_of(scores, errors), GroupAdvantage())
    assert collected.advantage_BS is not None
    alone = GroupAdvantage()(table_of([scores[row] for row in others]), collected.group_B[others])
    assert torch.equal(collected.advantage_BS[others, 0], alone)
    assert collected.advantage_BS[lost].abs().max() == 0
    if not collected.plan.train:
        assert lost not in {row for rows in collected.layout() for row in rows}


def test_a_judge_that_hangs_on_one_micro_batch_costs_that_one(config_text, tmp_path, monkeypatch):
    text, usual = config_text.replace("brightness.py:Brightness", "brightness.py:HangsOnce"), Trainer.update

    def update(self, *args):
        let_go(self.config).set()
        self.judges.last[0][1].thread.join(10)
        return usual(self, *args)

    monkeypatch.setattr(Trainer, "update", update)
    path = tmp_path / "run.yaml"
    path.write_text(text)
    config, _ = load(path, ["eval=", "optim.epochs=2", "judge_seconds=0.3"], Align)
    let_go(config).clear()
    metrics = train(config).read("metrics.jsonl")
    assert [row["broken"] for row in metrics] == [6, 0]
    assert all(row["grad_norm"] > 0 for row in metrics)
