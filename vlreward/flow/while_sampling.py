"""An on-policy update whose gradient is taken by the very passes that sample, before anything is known of the rewards.

At the weights that sampled, a policy gradient's loss has the gradient -mean A_i sum_j w_j d log p_ij, over rollouts i and trained steps j.
Advantages come last and are one number a rollout, so the sum over steps is kept for each rollout until they are there. That saves the
update's own forward passes, for as many numbers a rollout as there are trained weights, on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from vlreward.flow.kernels.base import Step
from vlreward.flow.lora import OneSum, Rows
from vlreward.flow.plan import Plan
from vlreward.flow.policies import PREFIX

LogProb = Callable[[Step, torch.Tensor], torch.Tensor]
"""A step and the x_next [B,*] that was drawn from it -> [B], whose gradient is followed."""


class RolloutGradients:
    """Of the rollouts of an epoch's first update: `places` are its micro-batches. All trained weights must be those of a LoRA."""

    def __init__(self, net: nn.Module, weights: Sequence[nn.Parameter], log_prob: LogProb, weight_S: torch.Tensor, places: Sequence[int]):
        self.layers = [layer for layer in net.modules() if isinstance(layer, OneSum)]
        self.weights, self.log_prob, self.weight_S, self.places = weights, log_prob, weight_S, places
        self.kept: dict[int, torch.Tensor] = {}
        """[B,P] of each micro-batch, on the CPU: rollout by weight, in the order of `weights`"""
        self.length: list[list[float]] = [[] for _ in weight_S]
        """Of a rollout's gradient of log p by trained step, mean over a micro-batch's rollouts."""
        known = {id(weight) for layer in self.layers for weight in layer.factors(f"{PREFIX}train")}
        assert known == {id(weight) for weight in weights}, "only the weights of a LoRA have gradients by row"

    def begin(self, rows: int) -> None:
        """Before a micro-batch of so many rollouts."""
        for layer in self.layers:
            layer.rows = Rows.of(layer, f"{PREFIX}train", rows)

    def follow(self, j: int, step: Step, x_next: torch.Tensor) -> None:
        """Go back from a trained step, which was computed with gradients, to the weights."""
        with torch.enable_grad():
            total = self.weight_S[j].item() * self.log_prob(step, x_next).sum()
        total.backward()
        squares = [layer.rows.square for layer in self.layers if layer.rows is not None]
        self.length[j].append(torch.stack(squares).sum(0).sqrt().mean().item() / self.weight_S[j].item())
        for square in squares:
            square.zero_()

    def end(self, place: int) -> None:
        """Keep what the rollouts of a micro-batch came to."""
        found: dict[int, torch.Tensor] = {}
        for layer in self.layers:
            assert layer.rows is not None, "begin comes first"
            for weight, rows in zip(layer.factors(f"{PREFIX}train"), (layer.rows.first, layer.rows.second), strict=True):
                found[id(weight)] = rows.flatten(1)
            layer.rows = None
        self.kept[place] = torch.cat([found[id(weight)] for weight in self.weights], dim=1).cpu()

    def lay(self, advantage_BS: torch.Tensor, plan: Plan) -> dict[str, float]:
        """Give the weights the gradient of the update's loss, for all rollouts' advantages, alike at all steps; its figures, as
        `PolicyGradient` has them."""
        advantage_B = advantage_BS[:, 0]
        assert torch.equal(advantage_BS, advantage_B[:, None].expand_as(advantage_BS)), "a rollout has one advantage for all of its steps"
        gradient, value, steps = torch.zeros(()), 0.0, len(self.weight_S)
        for place, rows in self.kept.items():
            advantage = advantage_B[place * len(rows) : (place + 1) * len(rows)].float() / (len(rows) * len(self.kept) * steps)
            gradient = gradient - advantage.cpu() @ rows
            value -= advantage.sum().item() * self.weight_S.sum().item()
        sizes = [weight.numel() for weight in self.weights]
        for weight, part in zip(self.weights, gradient.split(sizes), strict=True):
            weight.grad = part.view_as(weight).to(weight)
        lengths = {f"log_prob_grad/step_{step}": sum(found) / len(found) for step, found in zip(plan.train, self.length, strict=True)}
        return {"loss/policy": value, "ratio/mean": 1.0, "ratio/deviation": 0.0, "clip_fraction": 0.0} | lengths
