"""Figures that show a run going wrong before its reward does, and the check that starts every run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from vlreward.flow.collect import Batch, Bind, Collected
from vlreward.flow.config import Group, Optim
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.plan import Plan
from vlreward.types import Loss, RewardTable, Rollout

SMALL = 64
"""Pixels a side of what pictures are compared at."""


@dataclass(frozen=True)
class Glance:
    """What the monitors keep of one rollout's picture or clip."""

    group: int
    small: torch.Tensor
    """[N] its pixels, averaged down to at most SMALL a side"""
    saturation: float
    """Mean difference between a pixel's largest and smallest channel"""


def glances(rollouts: Sequence[Rollout]) -> list[Glance]:
    """Of each rollout, which has a picture or clip."""
    found = []
    for rollout in rollouts:
        assert rollout.made is not None, "a rollout of a generator has a picture"
        pixels = rollout.made.tensor
        height, width = (min(SMALL, side) for side in pixels.shape[-2:])
        small = pixels if (height, width) == tuple(pixels.shape[-2:]) else torch.nn.functional.adaptive_avg_pool2d(pixels, (height, width))
        found.append(Glance(rollout.group, small.flatten(), (pixels.amax(-3) - pixels.amin(-3)).mean().item()))
    return found


def diversity(seen: Sequence[Glance]) -> float:
    """Mean distance of two pictures of one group, as root mean square over pixels in [0, 1]; falls towards 0 where a policy collapses."""
    groups: dict[int, list[torch.Tensor]] = {}
    for glance in seen:
        groups.setdefault(glance.group, []).append(glance.small)
    distances = []
    for members in groups.values():
        pixels = torch.stack(members)
        distances.append(torch.pdist(pixels).mean() / pixels.shape[1] ** 0.5)
    return torch.stack(distances).mean().item()


def saturation(seen: Sequence[Glance]) -> float:
    """Mean saturation of all pictures, in [0, 1]; climbs where a policy learns garish colours."""
    return sum(glance.saturation for glance in seen) / len(seen)


def reward_figures(table: RewardTable) -> dict[str, float]:
    """reward/<name> and reward/total, means over the rollouts that have one, and how many judgements broke."""
    means = {f"reward/{name}": table.scores[:, column].nanmean().item() for column, name in enumerate(table.names)}
    figures = means | {"reward/total": table.total.nanmean().item(), "broken": float(table.broken.sum())}
    return {name: value for name, value in figures.items() if value == value}


class GradientNorm:
    """Length of the gradient that each backward pass brings, before it is added to those of other passes."""

    def __init__(self, weights: Sequence[torch.Tensor]):
        self._square: torch.Tensor | float = 0.0
        self._hooks = [weight.register_hook(self._add) for weight in weights]

    def _add(self, gradient: torch.Tensor) -> None:
        self._square = self._square + gradient.detach().float().square().sum()

    def take(self) -> float:
        """Of the last backward pass."""
        length, self._square = float(self._square) ** 0.5, 0.0
        return length

    def remove(self) -> None:
        """Stop measuring."""
        for hook in self._hooks:
            hook.remove()


def by_step(batch: Batch, plan: Plan, loss: Loss, gradient: float) -> dict[str, float]:
    """grad_norm/step_<k> and clip_fraction/step_<k> of a batch of the denoising step k; nothing of renoised rollouts, which have none.

    Their means show what a common rate hides: how differently the steps pull (17 to 130 times, by the noise that is left), and at which
    of them the clip holds.
    """
    if batch.step >= plan.steps:
        return {}
    figures = {f"grad_norm/step_{batch.step}": gradient}
    if "clip_fraction" in loss.metrics:
        figures[f"clip_fraction/step_{batch.step}"] = loss.metrics["clip_fraction"]
    return figures


def self_check(bind: Bind, collected: Collected) -> str:
    """One line on what must hold before the first update: the ratio of a sampled step computed again with gradients is 1, and the
    noiseless kernel is the ODE."""
    collected.advantage_BS = torch.zeros(len(collected.rollouts), collected.plan.trained)
    collected.weight_BS = torch.ones_like(collected.advantage_BS)
    facts = []
    if collected.plan.train:
        batch = next(collected.updates(1, torch.Generator()))[0]
        v = bind(batch.prompts)(batch.x, batch.s).detach()
        ratio = (batch.kernel(batch.x, v, batch.s, batch.s_next).log_prob(batch.x_next) - batch.log_prob).exp()
        deviation = (ratio - 1).abs().max().item()
        facts.append("ratio exactly 1" if deviation == 0 else f"ratio 1 up to {deviation:.1e}")
        if hasattr(batch.kernel, "noise"):
            silent = type(batch.kernel)(**{**vars(batch.kernel), "noise": 0.0})
            gap = silent(batch.x, v, batch.s, batch.s_next).mean - Ode()(batch.x, v, batch.s, batch.s_next).mean
            facts.append(f"noise 0 is the ODE up to {gap.abs().max().item():.1e}")
    return "; ".join(facts)


def geometry(group: Group, optim: Optim, plan: Plan) -> str:
    """One line on what an epoch is made of, and, where transitions are learned from, in which of its updates a ratio may differ from 1."""
    rollouts = group.groups * group.size
    sampled = f"{group.groups} groups of {group.size} = {rollouts} rollouts in {rollouts // group.micro_batch} micro-batches"
    steps = f"{plan.steps} denoising steps, {plan.trained} trained steps a rollout"
    updates, policy = "1 update", ", on-policy (every ratio is 1, and so it should be)"
    if optim.updates > 1:
        updates, policy = f"{optim.updates} updates", ", the first on-policy (every ratio is 1), the later ones off-policy"
    return f"an epoch: {sampled}, {steps}, {updates}{policy if plan.train else ''}; {optim.epochs * optim.updates} updates in all"


def memory(
    networks: Iterable[nn.Module], trained: Sequence[nn.Parameter], policies: int, activations: int, kept: int, apart: int = 0
) -> str:
    """One line on what a run will hold: all in bytes, `policies` those of named weights, `activations` those of one forward pass with
    gradients, `kept` the latents and pictures of an epoch, and `apart` rollouts whose gradients the host keeps apart. Rewards are not
    counted."""
    own = {id(weight): weight.nbytes for network in networks for weight in network.parameters()}
    learning = sum(3 * weight.nbytes for weight in trained)  # a gradient and AdamW's two moments
    parts = {
        "weights": sum(own.values()), "gradients and optimiser": learning, "named policies": policies,
        "activations of a micro-batch": activations, "latents and pictures of an epoch": kept,
    }  # fmt: skip
    if apart:
        parts["gradients of rollouts, on the host"] = apart * 4 * sum(weight.numel() for weight in trained)
    return f"memory: {size(sum(parts.values()))} = " + " + ".join(f"{size(value)} {name}" for name, value in parts.items())


def size(num_bytes: float) -> str:
    """'1.5 GB', '120.0 MB', '8.2 kB'"""
    unit, name = next((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if num_bytes >= unit or name == "kB")
    return f"{num_bytes / unit:.1f} {name}"


def activations(work: Callable[[], object], weights: Iterable[torch.Tensor]) -> int:
    """Bytes that the backward pass of `work` would keep, apart from the weights."""
    known = {weight.untyped_storage().data_ptr() for weight in weights}
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made = work()  # kept alive, so that no storage is counted in another's place
    del made
    return sum(found.values())


def held(collected: Collected) -> float:
    """Bytes a rollout that stay until the epoch's end: its latents and its picture."""
    latents = sum(tensor.nbytes for part in collected.parts for tensor in vars(part).values() if tensor is not None)
    pictures = sum(rollout.made.tensor.nbytes for rollout in collected.rollouts if rollout.made is not None)
    return (latents + pictures) / len(collected.rollouts)
