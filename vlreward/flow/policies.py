"""Named weights of one network: `train` (the live ones), `base`, `ema`, and whatever else an objective asks for."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import nn

from vlreward.pieces import apart, full, in_pieces, like

PREFIX = "policy_"
"""Leads an adapter's name, since peft keeps adapters as attributes of modules, which have a `train` of their own."""


class Policies:
    """Weights by name. With a LoRA each name is one more adapter, and `base` is the network without any; else names are snapshots.

    `train` must be in the network already (as the adapter `policy_train`, or the network itself).
    """

    def __init__(self, net: nn.Module, names: Iterable[str] = (), divide: Callable[[nn.Module], None] = lambda net: None):
        """`divide` may lay the weights in pieces over several processes; it gets the network once all adapters are in it."""
        self.net = net
        self.lora = f"{PREFIX}train" in getattr(net, "peft_config", {})
        self._snapshots: dict[str, dict[str, torch.Tensor]] = {}
        self._active = "train"
        others = sorted(set(names) - {"train"})
        for name in others if self.lora else ():
            if name != "base":
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                    net.add_adapter(net.peft_config[f"{PREFIX}train"], adapter_name=PREFIX + name)  # type: ignore[operator, index]
                net.set_adapter(f"{PREFIX}train")  # type: ignore[operator]
                self.update(name)
        divide(net)
        for name in others if not self.lora else ():
            self._snapshots[name] = {key: weight.detach().clone() for key, weight in self.weights("train").items()}

    @property
    def names(self) -> tuple[str, ...]:
        """All names but `train`; `base` comes with every LoRA."""
        if not self.lora:
            return tuple(self._snapshots)
        adapters = (name.removeprefix(PREFIX) for name in self.net.peft_config)  # type: ignore[union-attr]
        return (*(name for name in adapters if name != "train"), "base")

    def weights(self, name: str = "train") -> dict[str, torch.Tensor]:
        """The weights that are trained, by parameter name (the adapter's name left out)."""
        if name in self._snapshots:
            return self._snapshots[name]
        if not self.lora:
            return dict(self.net.named_parameters())
        mark = f".{PREFIX}{name}."
        return {key.replace(mark, "."): weight for key, weight in self.net.named_parameters() if "lora_" in key and mark in key}

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[None]:
        """Inside, the network computes with these weights, in evaluation mode; `train` changes nothing.

        Weights and mode come back whatever happens inside.
        """
        if name == "train":
            yield
            return
        assert self._active == "train", f"policy {name!r} was asked for while {self._active!r} is in use"
        assert name in self.names, f"there is no policy {name!r}, only {', '.join(self.names)}"
        training = self.net.training
        self._enter(name)
        self._active = name
        try:
            self.net.eval()
            yield
        finally:
            self._leave(name)
            self._active = "train"
            self.net.train(training)

    def _enter(self, name: str) -> None:
        if not self.lora:
            self._swap(name)
        elif name == "base":
            self.net.disable_adapters()  # type: ignore[operator]
        else:
            self.net.set_adapter(PREFIX + name)  # type: ignore[operator]

    def _leave(self, name: str) -> None:
        if not self.lora:
            self._swap(name)
        elif name == "base":
            self.net.enable_adapters()  # type: ignore[operator]
        else:
            self.net.set_adapter(f"{PREFIX}train")  # type: ignore[operator]

    def _swap(self, name: str) -> None:
        """Exchange storage, not values: a graph that was recorded with the live weights stays valid for its backward pass.

        FSDP2 puts weights together from storage of its own, and does so again for a backward pass: there values change places.
        """
        snapshot = self._snapshots[name]
        if in_pieces(self.net):
            apart(self.net)
            with torch.no_grad():
                for key, weight in self.weights("train").items():
                    live = weight.clone()
                    weight.copy_(snapshot[key])
                    snapshot[key].copy_(live)
            return
        for key, weight in self.weights("train").items():
            weight.data, snapshot[key] = snapshot[key], weight.data

    @torch.no_grad()
    def update(self, name: str, decay: float = 0.0) -> None:
        """name <- decay * name + (1 - decay) * train."""
        assert name in self.names, f"there is no policy {name!r}, only {', '.join(self.names)}"
        assert name != "base" or not self.lora, "the base under a LoRA has no weights of its own"
        live = self.weights("train")
        for key, weight in self.weights(name).items():
            weight.lerp_(live[key], 1 - decay) if decay else weight.copy_(live[key])

    @property
    def num_bytes(self) -> int:
        """That named weights besides `train` take in this process."""
        kept = (name for name in self.names if not (self.lora and name == "base"))
        return sum(weight.nbytes for name in kept for weight in self.weights(name).values())

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything that training changes: 'name/parameter' -> tensor on the CPU."""
        kept = ("train", *(name for name in self.names if not (self.lora and name == "base")))
        return {f"{name}/{key}": full(w.detach()).cpu().contiguous() for name in kept for key, w in self.weights(name).items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put saved weights back in place; they must be the same ones."""
        own = self.state_dict()
        assert own.keys() == state.keys(), f"the saved weights are others: {sorted(own.keys() ^ state.keys())[:4]}"
        for name in ("train", *self.names):
            for key, weight in self.weights(name).items():
                if f"{name}/{key}" in state:
                    weight.copy_(like(state[f"{name}/{key}"], weight))
