"""An update of the weights: gradients of several micro-batches, put together over the processes, and AdamW's step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from vlreward.flow.config import Optim
from vlreward.pieces import full, like

if TYPE_CHECKING:
    from vlreward.flow.processes import Processes


class Descent:
    """AdamW. One process has all of its moments, or, under FSDP2, those of its pieces of the weights."""

    def __init__(self, net: torch.nn.Module, weights: Sequence[torch.nn.Parameter], optim: Optim, processes: Processes):
        self.weights, self.optim, self.processes = weights, optim, processes
        self.optimizer: Any = torch.optim.AdamW(weights, lr=optim.lr, weight_decay=optim.weight_decay)

    def begin(self) -> None:
        """Forget the last update's gradients."""
        self.optimizer.zero_grad()

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add a micro-batch's gradients, which may be the last ones of this update."""
        loss.backward()

    def length(self) -> float:
        """Of the gradient of all processes, before it is cut to `optim.grad_norm`."""
        self.processes.average(self.weights)
        return full(torch.nn.utils.clip_grad_norm_(self.weights, self.optim.grad_norm)).item()

    def step(self, lr: float) -> None:
        """Take the step."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()

    def leave_out(self) -> None:
        """Take no step this time."""

    def state_dict(self) -> dict[str, Any]:
        """Of AdamW over whole weights, on the CPU; every process must ask for it."""
        found = self.optimizer.state_dict()
        found["state"] = {
            i: {name: full(value).cpu() if isinstance(value, torch.Tensor) else value for name, value in row.items()}
            for i, row in found["state"].items()
        }
        return found

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it up, once the weights lie in their places."""
        for i, row in state["state"].items():
            shape = self.weights[i].shape
            row.update({name: like(value, self.weights[i]) for name, value in row.items() if getattr(value, "shape", None) == shape})
        self.optimizer.load_state_dict(state)


class DividedDescent(Descent):
    """DeepSpeed's ZeRO-2: each process keeps the gradients and moments of its part of the weights, which lie whole everywhere.

    What lies in parts is put together for checkpoints, so that a run may go on with another number of processes, or without DeepSpeed.
    """

    def __init__(self, net: torch.nn.Module, weights: Sequence[torch.nn.Parameter], optim: Optim, processes: Processes):
        import deepspeed  # type: ignore[import-not-found]

        super().__init__(net, weights, optim, processes)
        self.inner = self.optimizer
        self.engine, self.optimizer, *_ = deepspeed.initialize(
            model=net,
            optimizer=self.inner,
            config={
                "train_micro_batch_size_per_gpu": 1,
                "gradient_accumulation_steps": 1,
                "gradient_clipping": optim.grad_norm,
                "zero_optimization": {"stage": 2},
                "zero_allow_untested_optimizer": True,
            },
        )
        self.optimizer.check_grad_overflow = True

    def begin(self) -> None:
        """An update that was taken or left out has forgotten them."""
        self.begun = False

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        self.begun = True
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss)

    def length(self) -> float:
        if not self.begun:
            return 0.0  # DeepSpeed fails where it has seen no gradient at all
        norm = float(self.optimizer.scaled_global_norm())
        return norm if norm >= 0 else float("inf")

    def step(self, lr: float) -> None:
        self._settle(lr, left_out=False)

    def leave_out(self) -> None:
        if self.begun:
            self._settle(0.0, left_out=True)

    def _settle(self, lr: float, left_out: bool) -> None:
        """End an update. One that is left out goes the way of an overflow, by which DeepSpeed forgets the gradients and takes no step."""
        for group in self.inner.param_groups:
            group["lr"] = lr
        self.optimizer.check_overflow = lambda **_: setattr(self.optimizer, "overflow", left_out)
        self.engine.step()

    def state_dict(self) -> dict[str, Any]:
        from deepspeed.utils import safe_get_full_optimizer_state  # type: ignore[import-not-found]

        whole: Any = safe_get_full_optimizer_state
        steps = [row["step"] for row in self.inner.state.values()]
        own = {name: value for name, value in self.inner.param_groups[0].items() if name != "params"}
        groups = [own | {"params": list(range(len(self.weights)))}]
        if not steps:
            return {"state": {}, "param_groups": groups}
        moments = [{name: whole(weight, name).cpu() for name in ("exp_avg", "exp_avg_sq")} for weight in self.weights]
        return {"state": {i: {"step": torch.as_tensor(steps[0]).cpu()} | row for i, row in enumerate(moments)}, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state as put  # type: ignore[import-not-found]

        self.optimizer.refresh_fp32_params()
        if not state["state"]:
            return
        for group in self.inner.param_groups:
            for part in group["params"]:
                self.inner.state[part] = {"step": state["state"][0]["step"].clone()} | {
                    name: torch.zeros_like(part) for name in ("exp_avg", "exp_avg_sq")
                }
        for i, weight in enumerate(self.weights):
            for name in ("exp_avg", "exp_avg_sq"):
                put(weight, state["state"][i][name].to(weight.device), name)
