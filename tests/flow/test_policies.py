import pytest
import torch
from torch import nn

from vlreward.flow.policies import Policies


def outputs(generator):
    torch.manual_seed(5)
    x, s = torch.randn(2, *generator.shape()), torch.tensor([0.9, 0.4])
    return generator.velocity(x, s, generator.encode(["a red circle", "two blue squares"]))


def move(generator) -> None:
    """Change the live LoRA."""
    with torch.no_grad():
        for weight in generator.net.parameters():
            if weight.requires_grad:
                weight.add_(0.1)


def inside(policies: Policies, name: str) -> float:
    with policies.use(name):
        assert not policies.net.training
        return 1 / 0


def test_a_new_lora_computes_exactly_what_the_base_does(generator):
    policies = Policies(generator.net, ["ema"])
    with torch.no_grad():
        live = outputs(generator)
        for name in ("base", "ema"):
            with policies.use(name):
                assert torch.equal(outputs(generator), live)


def test_named_weights_stay_behind_when_the_live_ones_move(generator):
    policies = Policies(generator.net, ["ema"])
    with torch.no_grad():
        before = outputs(generator)
        move(generator)
        assert not torch.allclose(outputs(generator), before, atol=1e-4)
        for name in ("base", "ema"):
            with policies.use(name):
                assert torch.equal(outputs(generator), before)


def test_use_restores_weights_mode_and_gradients_after_an_exception(generator):
    """S14"""
    policies = Policies(generator.net, ["ema"])
    move(generator)
    trained = {name for name, weight in generator.net.named_parameters() if weight.requires_grad}
    with torch.no_grad():
        live = outputs(generator)
    for name in ("base", "ema"):
        with pytest.raises(ZeroDivisionError):
            inside(policies, name)
        assert generator.net.training
        assert {n for n, weight in generator.net.named_parameters() if weight.requires_grad} == trained
        assert all("policy_train" in n for n in trained)
        with torch.no_grad():
            assert torch.equal(outputs(generator), live)


def test_policies_do_not_nest(generator):
    policies = Policies(generator.net)
    with policies.use("base"), pytest.raises(AssertionError, match="while 'base' is in use"), policies.use("base"):
        pass


def test_average_moves_by_one_minus_decay(generator):
    policies = Policies(generator.net, ["ema"])
    start = {key: weight.clone() for key, weight in policies.weights("ema").items()}
    move(generator)
    policies.update("ema", decay=0.75)
    for key, weight in policies.weights("ema").items():
        assert torch.allclose(weight, start[key] + 0.025, atol=1e-6)


def test_gradients_survive_a_look_at_the_base(generator):
    """The KL's order of calls: live forward, base forward, backward."""
    policies = Policies(generator.net, ["ema"])
    with torch.no_grad():
        base = outputs(generator)
    move(generator)
    weights = list(policies.weights("train").values())
    wanted = torch.autograd.grad(((outputs(generator) - base) ** 2).mean(), weights, allow_unused=True)
    live = outputs(generator)
    with policies.use("base"), torch.no_grad():
        assert torch.equal(outputs(generator), base)
    with policies.use("ema"), torch.no_grad():
        assert torch.equal(outputs(generator), base)
    ((live - base) ** 2).mean().backward()
    assert sum(gradient is not None for gradient in wanted) > len(weights) / 2
    for weight, gradient in zip(weights, wanted, strict=True):
        assert (weight.grad is None and gradient is None) or torch.equal(torch.as_tensor(weight.grad), torch.as_tensor(gradient))
    assert all(weight.grad is None for weight in policies.weights("ema").values())


def test_snapshots_serve_a_network_that_is_trained_whole():
    torch.manual_seed(0)
    net, x = nn.Linear(3, 2), torch.randn(4, 3)
    policies = Policies(net, ["base", "ema"])
    first = net(x).detach()
    with torch.no_grad():
        net.weight.add_(1.0)
    moved = net(x)
    with policies.use("base"):
        assert torch.equal(net(x), first)
    assert torch.equal(net(x), moved)
    moved.sum().backward()
    assert torch.allclose(torch.as_tensor(net.weight.grad), x.sum(0).expand(2, 3))
    policies.update("ema", 0.5)
    with policies.use("ema"):
        assert torch.allclose(net(x), (first + moved) / 2, atol=1e-6)


def test_saved_weights_come_back(generator):
    policies = Policies(generator.net, ["ema"])
    saved = {key: value.clone() for key, value in policies.state_dict().items()}
    move(generator)
    policies.update("ema")
    policies.load_state_dict(saved)
    assert all(torch.equal(value, saved[key]) for key, value in policies.state_dict().items())
    assert {key.split("/")[0] for key in saved} == {"train", "ema"}
