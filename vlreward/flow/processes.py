"""The processes of one run: each samples and judges its share of an epoch, and together they take the step that one alone would take.

Gradients of shares are averaged once an update, or by FSDP2 as they come. Whatever compares rollouts with each other (advantages, pairs,
groups, monitors) sees those of all processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.flow.collect import Collected, Part, visits
from vlreward.flow.config import Align, Optim
from vlreward.flow.descent import Descent, DividedDescent
from vlreward.flow.plan import seeded
from vlreward.flow.rollout import Trajectory
from vlreward.run.launch import Launch
from vlreward.types import RewardTable, Rollout


class Processes(Launch):
    """Those of a launch by torchrun or accelerate, or the only one."""

    def __init__(self, device: str):
        super().__init__(device)
        if self.count > 1:
            self._check()

    def _check(self) -> None:
        state = self._accelerator.state
        if state.deepspeed_plugin is not None:
            plugin = state.deepspeed_plugin
            if plugin.zero_stage not in (1, 2):
                problem = f"is {plugin.zero_stage}, and align knows 2; to divide weights too, use FSDP (configs/accelerate/fsdp2.yaml)"
                raise ConfigError(problem, "deepspeed_config.zero_stage")
            moved = plugin.deepspeed_config.get("zero_optimization", {}).get("offload_optimizer", {}).get("device", "none")
            if moved != "none":
                raise ConfigError(
                    f"is {moved!r}, and align keeps moments on the device; expected none", "deepspeed_config.offload_optimizer_device"
                )
        if self._sharded:
            for name, wanted in {"fsdp_version": 2, "cpu_ram_efficient_loading": False}.items():
                if getattr(state.fsdp_plugin, name) != wanted:
                    found, key = getattr(state.fsdp_plugin, name), f"fsdp_config.fsdp_{name.removeprefix('fsdp_')}"
                    raise ConfigError(f"is {found}, expected {str(wanted).lower()} (as in configs/accelerate/fsdp2.yaml)", key)

    def descent(self, net: torch.nn.Module, weights: Sequence[torch.nn.Parameter], optim: Optim) -> Descent:
        """AdamW, as the launch asks for it."""
        divided = self.count > 1 and self._accelerator.state.deepspeed_plugin is not None
        return (DividedDescent if divided else Descent)(net, weights, optim, self)

    @property
    def _sharded(self) -> bool:
        return self.kind == "FSDP"

    def check(self, config: Align) -> None:
        """Raise ConfigError where an update's micro-batches cannot be shared."""
        an_update = config.group.size * config.group.groups // config.group.micro_batch // config.optim.updates
        if an_update % self.count:
            problem = f"is {config.group.micro_batch}, which makes {an_update} micro-batches an update; {self.count} processes need"
            raise ConfigError(f"{problem} a multiple of {self.count}", "group.micro_batch")
        if config.optim.backward == "while_sampling" and self.kind in ("FSDP", "DEEPSPEED"):
            problem = f"is 'while_sampling', but {self.kind} adds up gradients as they come; use 'after', or configs/accelerate/ddp.yaml"
            raise ConfigError(problem, "optim.backward")

    def divide(self, net: Any) -> None:
        """Lay the weights in pieces over the processes, where that is what the launch asks for. Networks that choose which of their parts
        compute (`agree`) do so together from here on, unless the weights and gradients lie whole everywhere."""
        if hasattr(net, "agree") and self.kind in ("FSDP", "DEEPSPEED"):
            net.agree = self.agree
        if self.count > 1 and self._sharded:
            from accelerate.utils.fsdp_utils import fsdp2_prepare_model

            fsdp2_prepare_model(self._accelerator, net)

    def part(self, config: Align, epoch: int) -> Part | None:
        """What this process samples of an epoch and later learns from; None is all."""
        if self.count == 1:
            return None
        number = config.group.size * config.group.groups // config.group.micro_batch
        updates = visits(number, config.optim.updates, seeded(config.run.seed, "updates", epoch))
        return Part(sorted(place for update in updates for place in self.share(update)), self.rank, self.count)

    def first_update(self, config: Align, epoch: int) -> list[int]:
        """Its micro-batches that this process samples and learns from."""
        number = config.group.size * config.group.groups // config.group.micro_batch
        return self.share(visits(number, config.optim.updates, seeded(config.run.seed, "updates", epoch))[0])

    def collect_first(self, rollouts: list[Rollout], table: RewardTable, batch: int) -> tuple[list[Rollout], RewardTable]:
        """The held-out rollouts of all processes, who took turns at batches of this size, and their table, in the first one; pictures in 8
        bits."""
        if self.count == 1:
            return rollouts, table
        light = [replace(one, made=Picture(one.made.png())) if isinstance(one.made, Picture) else one for one in rollouts]
        everyone = self.hand_over((light, table))
        if not everyone:
            return rollouts, table
        order = sorted((i // batch, t, i) for t, (part, _) in enumerate(everyone) for i in range(len(part)))
        chosen = [(t, i) for _, t, i in order]
        return [everyone[t][0][i] for t, i in chosen], RewardTable.joined([part for _, part in everyone], chosen)

    def average(self, weights: Sequence[torch.nn.Parameter]) -> None:
        """As of any launch; FSDP2 has averaged the gradients of weights in pieces already."""
        super().average([weight for weight in weights if not isinstance(weight, DTensor)])

    def join(self, collected: Collected, table: RewardTable) -> RewardTable:
        """Make `collected` that of all processes, whose pictures and latents stay where they were made; its whole table."""
        if collected.shared is None:
            return table
        size, shared = collected.size, collected.shared
        kept = {name: rows.cpu() for name, rows in collected.for_credit.items()}
        everyone = self.gather((shared.part.places, table, collected.on_the_way, kept))
        where = {place: (t, i) for t, (places, *_) in enumerate(everyone) for i, place in enumerate(places)}
        chosen = [(t, i * size + k) for _, (t, i) in sorted(where.items()) for k in range(size)]
        own = {place: i for i, place in enumerate(shared.part.places)}
        mine = collected.rollouts
        collected.rollouts = [
            mine[own[row // size] * size + row % size] if row // size in own else rollout for row, rollout in enumerate(shared.rollouts)
        ]
        collected.parts = [collected.parts[own[place]] if place in own else NOTHING for place in range(len(where))]
        collected.keys = shared.keys
        collected.for_credit = {name: torch.stack([everyone[t][3][name][row] for t, row in chosen]) for name in kept}
        on_the_way = zip(*(tables for _, _, tables, _ in everyone), strict=True)
        collected.on_the_way = [RewardTable.joined(tables, chosen) for tables in on_the_way]
        return RewardTable.joined([part for _, part, *_ in everyone], chosen)

    def lay_open(self, collected: Collected) -> None:
        """Give every process the latents of all rollouts, where micro-batches of some of them were laid anew."""
        if collected.shared is None or collected.units is None:
            return
        places = collected.shared.part.places
        device = collected.parts[places[0]].x0.device
        own = {place: moved(collected.parts[place], "cpu") for place in places}
        for found in self.gather(own):
            for place, part in found.items():
                if collected.parts[place] is NOTHING:
                    collected.parts[place] = moved(part, device)


def moved(part: Trajectory, device: Any) -> Trajectory:
    """The same on another device."""
    there: dict[str, Any] = {name: value if value is None else value.to(device) for name, value in vars(part).items()}
    return Trajectory(**there)


NOTHING = Trajectory(*[torch.empty(0)] * 6)
"""Stands for a micro-batch that another process has sampled."""
