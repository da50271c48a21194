"""The `sampler:` block: a kernel and the schedule it runs on, in one mapping."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from vlreward.config import Bound, Count, NotNegative, Positive, parse, part, resolved
from vlreward.errors import ConfigError
from vlreward.flow.kernels.base import Kernel
from vlreward.flow.math import Grid, compressed, sigmas
from vlreward.flow.plan import Plan, seeded


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The keys of `sampler:` besides `kernel` and the kernel's own."""

    steps: Annotated[int, Bound(2)]
    """Denoising steps of a rollout."""
    guidance: NotNegative = 1.0
    """Of rollouts, training and evaluation alike; 1 is none and costs half."""
    grid: Grid = "native"
    shift: Positive | None = None
    """Of the sigma grid; none is the model's own."""
    last_step: Literal["ode", "kernel"] = "ode"
    """A noisy last step leaves its noise in the picture that is judged; the ODE leaves none, and nothing to train on at that step."""
    window: Count | None = None
    """Only this many neighbouring steps are noisy and trained; none is all steps. Source: Flow-GRPO-Fast."""
    window_from: Annotated[int, Bound(0)] | None = None
    """First step of the window; none draws it anew each epoch. Early steps decide what is where, late ones how it is finished."""
    window_until: Count | None = None
    """Steps from this one on are in no window; none is all that can be noisy. Source: Flow-GRPO-Fast, half of the steps."""
    slide: Count | None = None
    """Epochs after which the window moves one step later, from `window_from` (or the start) to the last place; then it stays.
    Source: MixGRPO (arXiv 2507.21802)."""
    trained: Annotated[float, Bound(0, 1, above=True)] = 1.0
    """Share of the noisy steps that is trained, rounded down to at least one and drawn anew each epoch. Source: DanceGRPO, 0.6."""
    share_noise: bool = False
    """All rollouts of a group start from the same noise."""
    tail: Literal["euler", "multistep"] = "euler"
    """What solves the ODE after the last noisy step (all of it, with the kernel `ode`): `multistep` is DPM-Solver++(2M)."""
    compress: Annotated[float, Bound(0, 1, above=True)] = 1.0
    """Share of the steps after the window that is left of them, rounded up; a rollout then takes window's end + ceil(compress * rest)
    steps. Steps before the window are never left out. With `tail: multistep` this is MixGRPO-Flash (arXiv 2507.21802, 0.4), and with
    `window_from: 0` and no `slide` its frozen form."""

    def __post_init__(self):
        if self.window is not None and self.window + (self.window_from or 0) > self.window_end:
            after = f" after step {self.window_from}" if self.window_from else ""
            raise ConfigError(f"is {self.window}, expected at most the {self.window_end} steps that can be noisy{after}", "window")
        for name in ("window_from", "window_until", "slide"):
            if self.window is None and getattr(self, name) is not None:
                raise ConfigError("is given without the size of the window; add sampler.window", name)
        if self.window is None and self.compress < 1:
            raise ConfigError("leaves out steps after the window, but there is none; add sampler.window", "compress")

    @property
    def window_end(self) -> int:
        """Number of steps, from the start, that may be in a window."""
        return min(self.last_noisy, self.window_until or self.last_noisy)

    @property
    def last_noisy(self) -> int:
        """Number of steps, from the start, that may be noisy."""
        return self.steps - (self.last_step == "ode")


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How rollouts are made: `{kernel: flow_sde, noise: 0.7, steps: 10, guidance: 4.5, grid: native}`."""

    kernel: Kernel
    schedule: Schedule

    @classmethod
    def from_tree(cls, tree: Any, key: str = "sampler", folder: Path | None = None) -> Sampler:
        """Build from the configuration's mapping. Raises ConfigError."""
        if not isinstance(tree, dict):
            raise ConfigError(f"is {tree!r}, expected keys and values", key)
        if "kernel" not in tree:
            raise ConfigError("the key 'kernel' is missing", key)
        try:
            plain = part("kernels", tree["kernel"], f"{key}.kernel", folder)
        except ConfigError as error:
            raise ConfigError(error.problem, f"{key}.kernel") from error
        own, shared = {f.name for f in fields(plain)}, {f.name for f in fields(Schedule)}
        for name in tree:
            if name not in own | shared | {"kernel"}:
                close = difflib.get_close_matches(str(name), own | shared, n=1, cutoff=0.5)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ConfigError(f"unknown key.{hint} Known: kernel, {', '.join(sorted(own | shared))}.", f"{key}.{name}")
        settings = {name: value for name, value in tree.items() if name in own}
        kernel = part("kernels", {"kind": tree["kernel"], **settings}, key, folder) if settings else plain
        schedule = parse(Schedule, {name: value for name, value in tree.items() if name in shared}, key, folder)
        if kernel.vanishing_end and schedule.last_step == "kernel":
            raise ConfigError(f"is 'kernel', but the last step of {kernel.kind!r} has no noise to train on; use 'ode'", f"{key}.last_step")
        return cls(kernel=kernel, schedule=schedule)

    def to_tree(self) -> dict[str, Any]:
        """The configuration's mapping again, every default written out."""
        kernel = resolved(self.kernel)
        return {"kernel": kernel.pop("kind"), **kernel, **resolved(self.schedule)}

    def sigmas(self, own: dict[str, float]) -> torch.Tensor:
        """[steps+1], with the model's own shift or mu where none is configured."""
        schedule = self.schedule
        return sigmas(schedule.steps, grid=schedule.grid, **(own if schedule.shift is None else {"shift": schedule.shift}))

    def plan(self, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        """An epoch's plan: all steps but the last noisy, or a window of them; those trained follow from seed and epoch."""
        schedule, noisy = self.schedule, range(self.schedule.last_noisy)
        if schedule.window is not None:
            start = self._window(epoch, seed)
            noisy = range(start, start + schedule.window)
        chosen = list(noisy) if self.kernel.stochastic else []
        count = max(1, int(schedule.trained * len(chosen) + 1e-9))
        drawn = torch.randperm(len(chosen), generator=seeded(seed, "trained", epoch))[:count].sort().values.tolist()
        quiet = max(chosen, default=-1) + 1
        return Plan(
            sigmas=compressed(grid, quiet, schedule.compress) if schedule.compress < 1 else grid, kernel=self.kernel, noisy=tuple(chosen),
            train=tuple(chosen[k] for k in drawn), guidance=schedule.guidance, share_noise=schedule.share_noise,
            multistep=quiet if schedule.tail == "multistep" else None,
        )  # fmt: skip

    def _window(self, epoch: int, seed: int) -> int:
        """The window's first step."""
        schedule = self.schedule
        assert schedule.window is not None, "there is no window"
        last = schedule.window_end - schedule.window
        if schedule.slide is not None:
            return min((schedule.window_from or 0) + epoch // schedule.slide, last)
        if schedule.window_from is not None:
            return schedule.window_from
        return int(torch.randint(last + 1, (1,), generator=seeded(seed, "window", epoch)))
