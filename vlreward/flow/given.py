"""Pictures and clips that lie in the data, in the place of rollouts: for learning offline, and for editing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torchvision.transforms.v2 import functional as VF

from vlreward.data.media import Clip, Picture
from vlreward.errors import DataError
from vlreward.flow.collect import Bind, Collected, Part, Shared, visual
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.math import interpolate
from vlreward.flow.models.base import Generator
from vlreward.flow.plan import Noise, Plan, seeded
from vlreward.flow.rollout import rollout
from vlreward.types import Rollout, Sample


@torch.no_grad()
def given(
    bind: Bind, model: Generator, plan: Plan, samples: Sequence[Sample], noise: Noise, *,
    epoch: int, size: int, micro_batch: int, device: str = "cpu", part: Part | None = None,
) -> Collected:  # fmt: skip
    """`size` of each sample's visuals, drawn anew each epoch, as a group of finished rollouts, encoded by the generator.

    A rollout's sample is the group's with what `target.pictures` says of this visual. Where the plan has a `begin`, a rollout is what
    the generator makes of the visual from there on. `part`: only its micro-batches are encoded, as `collect` has it. Raises DataError
    where a sample has too few visuals.
    """
    shape = model.shape()
    rows = [(group, member) for group, sample in enumerate(samples) for member in chosen(sample, size, noise.seed, epoch)]
    assert len(rows) % micro_batch == 0, f"{len(rows)} pictures are not a multiple of the micro-batch {micro_batch}"
    collected = Collected(plan=plan, rollouts=[], parts=[], noise=noise, bind=bind, decode=model.decode, keys=[])
    everyone = [Rollout(sample=of_one(samples[group], member), group=epoch * len(samples) + group) for group, member in rows]
    if part is not None:
        collected.shared = Shared(part, everyone, [(epoch, group, member) for group, member in rows])
    for first in range(0, len(rows), micro_batch):
        if part is not None and first // micro_batch not in part.places:
            continue
        taken = rows[first : first + micro_batch]
        keys = [(epoch, group, member) for group, member in taken]
        visuals = [fitted(samples[group].visuals[member], model.size(), samples[group].id) for group, member in taken]
        x0 = model.latents_of(torch.stack(visuals).to(device))
        assert x0.shape[1:] == shape, f"pictures became latents {tuple(x0.shape[1:])} where {tuple(shape)} are made"
        velocity = bind([samples[group] for group, _ in taken])
        if plan.begin is None:
            done = replace(plan, sigmas=plan.sigmas[-1:], kernel=Ode(), noisy=(), train=())
            trajectory = rollout(velocity, done, x0, lambda step: torch.empty(0))
        else:
            start = interpolate(x0, noise.batch(shape, [(*key, -1) for key in keys]).to(device), plan.sigmas[plan.begin].to(device))
            trajectory = rollout(velocity, plan, start, lambda step: torch.empty(0), plan.begin)
            visuals = list(model.decode(trajectory.x0).cpu())
        collected.parts.append(trajectory)
        collected.keys += keys
        found = zip(everyone[first : first + micro_batch], visuals, strict=True)
        collected.rollouts += [replace(one, made=visual(made)) for one, made in found]
    return collected


def chosen(sample: Sample, size: int, seed: int, epoch: int) -> list[int]:
    """`size` places among the sample's visuals, drawn anew each epoch. Raises DataError where there are fewer."""
    count = len(sample.visuals)
    if count < size:
        raise DataError(f"{sample.id}: has {count} pictures, expected at least group.size = {size}")
    return torch.randperm(count, generator=seeded(seed, "given", sample.id, epoch))[:size].tolist()


def of_one(sample: Sample, member: int) -> Sample:
    """The sample with one of its visuals, and in its target what `target.pictures` says of that one. Raises DataError."""
    target: dict[str, Any] = dict(sample.target)
    said = target.pop("pictures", [{}] * len(sample.visuals))
    if not isinstance(said, list) or len(said) != len(sample.visuals) or not all(isinstance(row, Mapping) for row in said):
        raise DataError(f"{sample.id}: target.pictures is {str(said)[:60]}, expected keys and values for each of {len(sample.visuals)}")
    return replace(sample, visuals=(sample.visuals[member],), target=target | dict(said[member]))


def singly(samples: Sequence[Sample]) -> list[Sample]:
    """Each visual as a sample of its own."""
    return [of_one(sample, member) for sample in samples for member in range(len(sample.visuals))]


def fitted(found: Picture | Clip, size: tuple[int, ...], where: str) -> torch.Tensor:
    """[3,H,W] or [F,3,H,W] at a generator's size (height, width, and frames of a clip).

    The shorter side is resized and the middle cut out; frames are taken at equal distances. Raises DataError.
    """
    height, width, *frames = size
    if isinstance(found, Clip) != bool(frames):
        raise DataError(f"{where}: has a {type(found).__name__.lower()}, but the generator makes {'clips' if frames else 'pictures'}")
    pixels = found.tensor.float()
    if frames:
        if len(pixels) < frames[0]:
            raise DataError(f"{where}: has a clip of {len(pixels)} frames, expected at least generator.frames = {frames[0]}")
        pixels = pixels[torch.linspace(0, len(pixels) - 1, frames[0]).round().long()]
    if tuple(pixels.shape[-2:]) == (height, width):
        return pixels
    scale = max(height / pixels.shape[-2], width / pixels.shape[-1])
    near = [max(height, round(pixels.shape[-2] * scale)), max(width, round(pixels.shape[-1] * scale))]
    return VF.center_crop(VF.resize(pixels, near, interpolation=VF.InterpolationMode.BICUBIC, antialias=True), [height, width]).clamp(0, 1)
