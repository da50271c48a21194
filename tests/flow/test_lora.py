"""Our LoRA layer computes what peft's does, and its gradients."""

from __future__ import annotations

import torch
from peft.tuners.lora.layer import Linear

from vlreward.flow.lora import OneSum
from vlreward.flow.policies import Policies


def outputs(generator, x: torch.Tensor, names: tuple[str, ...], policies: Policies) -> list[torch.Tensor]:
    """Velocities with each named policy, and the live weights' gradients."""
    condition, s = generator.encode(["a", "b"]), torch.tensor([0.5, 0.9])
    found = []
    for name in names:
        with policies.use(name):
            v = generator.velocity(x, s, condition)
            found.append(v.detach())
    live = [weight for weight in generator.net.parameters() if weight.requires_grad]
    loss = generator.velocity(x, s, condition).square().sum()
    return found + [grad for grad in torch.autograd.grad(loss, live, allow_unused=True) if grad is not None]


def test_it_agrees_with_pefts_own_layer_for_every_policy(generator):
    layers = [module for module in generator.net.modules() if isinstance(module, OneSum)]
    assert len(layers) == sum(isinstance(module, Linear) for module in generator.net.modules()) > 0
    policies, x = Policies(generator.net, {"base", "old"}), torch.randn(2, *generator.shape())
    for weight in policies.weights().values():
        weight.data.normal_(std=0.2)
    names = ("train", "old", "base")
    ours = outputs(generator, x, names, policies)
    for layer in layers:
        layer.__class__ = Linear
    theirs = outputs(generator, x, names, policies)
    assert (ours[0] - ours[2]).abs().max() > 1e-3, "the adapter must make a difference"
    assert torch.equal(ours[2], theirs[2])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max())) for a, b in zip(ours, theirs, strict=True))
