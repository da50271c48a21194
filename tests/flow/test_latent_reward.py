"""The reward of noisy latents: what it learns, how it is kept, and its gradient."""

from pathlib import Path

import pytest
import torch

from vlreward.errors import ConfigError
from vlreward.flow.latent_reward import LatentReward, Learner, Learning, averaged
from vlreward.flow.math import interpolate
from vlreward.flow.processes import Processes

SHAPES = [(3,), (4, 8, 8), (4, 3, 6, 8), (5, 7)]
WORDS = {"red": torch.tensor([1.0, 0.0, 0.0, 0.0]), "blue": torch.tensor([0.0, 1.0, 0.0, 0.0]), "": torch.zeros(4)}


def condition(prompts):
    return {"tokens": torch.stack([torch.stack([WORDS[p], torch.zeros(4)]) for p in prompts]), "guidance": torch.ones(len(prompts))}


def judged(count: int, seed: int = 0):
    """Ends whose first channel should be high for 'red' and low for 'blue', in groups of six."""
    generator = torch.Generator().manual_seed(seed)
    x0, group = torch.randn(count, 4, 4, 4, generator=generator), torch.arange(count) // 6
    prompts = ["red" if g % 2 else "blue" for g in group.tolist()]
    sign = torch.tensor([1.0 if prompt == "red" else -1.0 for prompt in prompts])
    return x0, group, (sign * x0[:, 0].mean((1, 2))).double(), prompts


def learner(**settings) -> Learner:
    return Learner(Learning(**({"width": 16, "lr": 1e-2, "pairs": 32} | settings)), (4, 4, 4), condition, Processes("cpu"), 7)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_takes_latents_of_every_kind_and_its_gradient_is_that_of_its_value(shape):
    torch.manual_seed(0)
    model = LatentReward(shape, {"tokens": 4}, width=16)
    x, s, told = torch.randn(2, *shape), torch.tensor([0.3, 0.8]), condition(["red", "blue"])
    with torch.no_grad():
        found = model.gradient(x, s, told)
        step = 1e-2 * torch.randn_like(x)
        change = model(x + step, s, told) - model(x - step, s, told)
    assert change.tolist() == pytest.approx((2 * step * found).flatten(1).sum(1).tolist(), rel=0.05, abs=1e-4)
    assert all(weight.grad is None for weight in model.parameters())


def test_what_it_is_told_of_a_prompt_does_not_depend_on_padding():
    tokens = torch.randn(2, 3, 4)
    assert torch.allclose(averaged(tokens), averaged(torch.cat([tokens, torch.zeros(2, 5, 4)], 1)), atol=1e-6)


def test_it_learns_which_is_better_for_its_prompt_and_knows_less_the_more_noise_there_is():
    part = learner(updates=25)
    figures = [part.learn(*judged(240, epoch), epoch) for epoch in range(5)]
    assert abs(figures[0]["latent_reward/accuracy"] - 0.5) < 0.25
    assert figures[-1]["latent_reward/accuracy"] > 0.7
    x0, group, total, prompts = judged(240, 99)
    better, worse = ((group[:, None] == group) & (total[:, None] > total)).nonzero().T

    def right(level: float, told) -> float:
        s = torch.full((len(x0),), level)
        x = interpolate(x0, torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1)).expand_as(x0), s)
        with torch.no_grad():
            value = part.model(x, s, told)
        return (value[better] > value[worse]).float().mean().item()

    told = condition(prompts)
    assert right(0.05, told) > 0.85
    assert right(0.05, told) > right(0.8, told) > 0.52
    assert right(0.05, condition(["blue" if p == "red" else "red" for p in prompts])) < 0.2


def test_shuffled_totals_teach_nothing():
    part = learner(updates=25)
    figures = {}
    for epoch in range(5):
        x0, group, total, prompts = judged(240, epoch)
        figures = part.learn(x0, group, total[torch.randperm(240, generator=torch.Generator().manual_seed(epoch))], prompts, epoch)
    assert abs(figures["latent_reward/accuracy"] - 0.5) < 0.25


def test_totals_that_are_missing_or_equal_make_no_pairs():
    part = learner(updates=2)
    x0, group, total, prompts = judged(12)
    before = [weight.clone() for weight in part.model.parameters()]
    assert part.learn(x0, group, torch.full_like(total, float("nan")), prompts, 0) == {}
    assert part.learn(x0, group, torch.zeros_like(total), prompts, 0) == {}
    assert part.learn(x0, torch.arange(12), total, prompts, 0) == {}
    assert all(torch.equal(a, b) for a, b in zip(before, part.model.parameters(), strict=True))


def test_a_learner_goes_on_to_the_same_bits_from_its_state():
    whole, first, second = (learner(updates=3) for _ in range(3))
    for epoch in range(4):
        whole.learn(*judged(24, epoch), epoch)
    for epoch in range(2):
        first.learn(*judged(24, epoch), epoch)
    second.load_state_dict(first.state_dict())
    for epoch in (2, 3):
        second.learn(*judged(24, epoch), epoch)
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True))


def test_its_making_and_learning_leave_the_global_random_state_alone():
    torch.manual_seed(5)
    wanted = torch.randn(3)
    torch.manual_seed(5)
    learner(updates=2).learn(*judged(24), 0)
    assert torch.equal(torch.randn(3), wanted)


def test_it_is_saved_and_read_back(tmp_path: Path):
    part = learner(updates=2)
    part.learn(*judged(24), 0)
    part.model.save(tmp_path / "kept")
    again = LatentReward.load(tmp_path / "kept")
    x, s = torch.randn(2, 4, 4, 4), torch.tensor([0.2, 0.9])
    assert torch.equal(again(x, s, condition(["red", ""])), part.model(x, s, condition(["red", ""])))
    further = learner(start=tmp_path / "kept").model
    assert torch.equal(further(x, s, condition(["red", ""])), part.model(x, s, condition(["red", ""])))


def test_a_folder_without_one_and_one_of_other_latents_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="where no latent reward was saved") as missing:
        Learner(Learning(start=tmp_path), (4, 4, 4), condition, Processes("cpu"), 0)
    assert missing.value.key == "objective.critic.start"
    learner().model.save(tmp_path)
    with pytest.raises(ConfigError, match="other latents or prompts") as error:
        Learner(Learning(start=tmp_path), (4, 8), condition, Processes("cpu"), 0)
    assert error.value.key == "objective.critic.start"
