"""An update's gradient that was taken while sampling is the update's own."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from vlreward.config import load
from vlreward.errors import ConfigError
from vlreward.flow.config import Align
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.models.sd3 import StableDiffusion3
from vlreward.flow.objectives.flow_grpo import FlowGrpo
from vlreward.flow.plan import Plan
from vlreward.flow.train import train
from vlreward.flow.while_sampling import RolloutGradients

GRPO = "objective: {kind: flow_grpo, clip: 1.0e-3, beta: 0.01}"
KINDS = {
    "flow_grpo": "{kind: flow_grpo, clip: 1.0e-3}",
    "noise": "{kind: flow_grpo, clip: 1.0e-3, step_weight: noise}",
    "guard": "{kind: grpo_guard, clip: 1.0e-3}",
    "dppo": "{kind: flow_dppo, threshold: 1.0e-3}",
}
WAYS = ("after", "while_sampling")


@pytest.fixture
def configured(config_text, tmp_path):
    def made(name: str, objective: str, *overrides: str) -> Align:
        path = tmp_path / "run.yaml"
        path.write_text(config_text.replace(GRPO, f"objective: {objective}"))
        return load(path, [f"run.name={name}", "eval=", *overrides], Align)[0]

    return made


def moved(folder) -> dict[str, torch.Tensor]:
    """The live weights that start at 0."""
    _, place = folder.latest()
    return {name: w for name, w in load_file(place / "policies.safetensors").items() if "lora_B" in name and name.startswith("train/")}


def alike(one, two) -> None:
    """The same rollouts, and weights that lie 1,000 times closer together than they moved."""
    rows = [
        [(row["id"], row["picture"], row["total"]) for row in folder.read("rollouts.jsonl") if row["step"] == 1] for folder in (one, two)
    ]
    assert rows[0] == rows[1]
    first, second = moved(one), moved(two)
    furthest = max(float(weight.abs().max()) for weight in first.values())
    assert furthest > 1e-4
    assert max(float((weight - second[name]).abs().max()) for name, weight in first.items()) < 1e-3 * furthest
    for a, b in zip(one.read("metrics.jsonl"), two.read("metrics.jsonl"), strict=True):
        for name in ("grad_norm", "loss/policy", "skipped", "reward/total"):
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-6), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampler", ["sampler.guidance=1", "sampler={kernel: cps, noise: 0.5, steps: 4, guidance: 3.0, window: 2}"])
def test_the_same_steps_as_by_an_update_of_its_own(configured, kind, sampler):
    # AdamW's first step is the gradient's sign, so that one that is 0 up to float error may go either way
    ways = [train(configured(way, KINDS[kind], f"optim.backward={way}", "optim.updates=1", "optim.epochs=2", sampler)) for way in WAYS]
    alike(*ways)


def test_later_updates_are_taken_afterwards(configured):
    alike(*(train(configured(way, KINDS["flow_grpo"], f"optim.backward={way}", "optim.epochs=2")) for way in WAYS))


def test_it_makes_no_passes_of_its_own(configured, monkeypatch):
    passes, velocity = [], StableDiffusion3.velocity

    def counted(self, x, s, condition):
        passes.append(torch.is_grad_enabled())
        return velocity(self, x, s, condition)

    monkeypatch.setattr(StableDiffusion3, "velocity", counted)
    found = {}
    for way in WAYS:
        passes.clear()
        train(configured(way, KINDS["flow_grpo"], f"optim.backward={way}", "optim.updates=1", "optim.epochs=1", "sampler.guidance=3"))
        found[way] = (len(passes), sum(passes))
    followed = found["after"][1] - 2  # the self-check and the memory estimate make one each
    assert followed == 2 * 3, "micro-batches, trained steps"
    assert found["while_sampling"] == (found["after"][0] - followed, found["after"][1])


def test_nobody_learns_where_every_judgement_is_lost(configured):
    rewards = "rewards=[{kind: tests/flow/brightness.py:Failing, epochs: [nan, '', nan], groups: 3}]"
    changes = (rewards, "optim.epochs=3", "optim.updates=1", "optim.backward=while_sampling")
    rows = train(configured("lost", KINDS["flow_grpo"], *changes)).read("metrics.jsonl")
    assert [row["skipped"] for row in rows] == [1, 0, 1]
    assert "loss/policy" not in rows[0]


def test_it_goes_on_exactly_where_it_stopped(configured):
    changes = ("optim.backward=while_sampling", "optim.epochs=3", "save_every=2")
    whole = train(configured("whole", KINDS["flow_grpo"], *changes))
    stopped = train(configured("stopped", KINDS["flow_grpo"], *changes))
    _, place = stopped.latest()
    place.rename(stopped.path / "aside")
    assert stopped.latest()[0] == 2
    resumed = train(configured("stopped", KINDS["flow_grpo"], *changes), resume=True)
    assert all(torch.equal(weight, moved(resumed)[name]) for name, weight in moved(whole).items())


@pytest.mark.parametrize(
    ("objective", "change", "told"),
    [
        ("{kind: dense_grpo, clip: 1.0e-3}", "run.seed=3", "no sum of one advantage a rollout"),
        ("{kind: euphonium, warmup: 1, critic: {width: 8, updates: 2, pairs: 4}}", "run.seed=3", "no sum of one advantage a rollout"),
        ("{kind: tempflow_grpo, clip: 1.0e-3}", "group.micro_batch=4 & optim.updates=1", "no sum of one advantage a rollout"),
        ("{kind: b2_diffurl, first: 1, grow: 1, stage: 1}", "group.micro_batch=4 & optim.updates=1", "no sum of one advantage a rollout"),
        ("{kind: nft, beta: 0.1}", "run.seed=3", "no sum of one advantage a rollout"),
        ("{kind: flow_grpo, clip: 1.0e-3, beta: 0.1}", "run.seed=3", "objective.beta asks for a KL"),
        ("{kind: flow_grpo, clip: 1.0e-3, best_worst: 2}", "run.seed=3", "objective.best_worst chooses"),
        ("{kind: flow_grpo, clip: 1.0e-3}", "generator.lora=0", "generator.lora is 0"),
        ("{kind: flow_grpo, clip: 1.0e-3}", "generator={kind: flux2_edit, model: x}", "passes rows with unlike many pictures apart"),
    ],
)
def test_what_has_no_such_gradient_is_refused(configured, objective, change, told):
    with pytest.raises(ConfigError, match=told) as caught:
        configured("refused", objective, "optim.backward=while_sampling", *change.split(" & "))
    assert "optim.backward" in str(caught.value)


def test_a_method_of_ones_own_that_credits_steps_apart_is_refused_too():
    class Stepwise(FlowGrpo):
        def credit(self, collected, table, advantage):
            super().credit(collected, table, advantage)

    assert FlowGrpo().unfollowed() is None
    assert "no sum of one advantage" in str(Stepwise().unfollowed())


def test_advantages_that_differ_from_step_to_step_are_not_laid():
    weight = torch.nn.Parameter(torch.zeros(1))
    gradients = object.__new__(RolloutGradients)
    vars(gradients).update(weights=[weight], weight_S=torch.ones(2), kept={0: torch.ones(1, 1)}, length=[[], []])
    with pytest.raises(AssertionError, match="one advantage for all of its steps"):
        gradients.lay(torch.tensor([[1.0, 2.0]]), Plan(sigmas=torch.linspace(1, 0, 3), kernel=FlowSde(noise=0.7)))
