"""An implicit process reward model: it learns outcomes, and its log-ratio to what it was at first rewards each token.

Source: PRIME, arXiv 2502.01456. With pi_phi this model and pi_ref the run's first policy, token t of an answer y is worth
r_t = beta * (log pi_phi(y_t) - log pi_ref(y_t)), and pi_phi is trained by cross-entropy on sigmoid(sum_t r_t) against the outcome, at each
batch of rollouts, once its rewards were read from the same forward pass (the paper's "single forward").
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any

import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from torch.nn.functional import binary_cross_entropy_with_logits
from trl.trainer.utils import add_fused_lm_head

from vlreward.models.folders import LANGUAGE, freeze_vision
from vlreward.vlm.config import Implicit, TrainVLM
from vlreward.vlm.policy import read

Scorer = Callable[[Any, list[int]], torch.Tensor]
"""(model, places of answers) -> their tokens' log-probabilities [b,T], 0 beyond an answer's end."""


class ImplicitRewards:
    """The model, its optimiser, and the policy it is measured against. Every process holds all of it, and takes the same steps."""

    def __init__(self, block: Implicit, config: TrainVLM, accelerator: Accelerator):
        self.block, self.accelerator = block, accelerator
        self.figures: dict[str, float] = {}
        model, _ = read(config.policy.model, str(accelerator.device), half=config.policy.bf16 and block.lora > 0)
        if config.policy.freeze_vision:
            freeze_vision(model)
        self.first = None if block.lora else deepcopy(model).requires_grad_(False)
        for one in (model, self.first):
            if one is not None:
                add_fused_lm_head(one)
        if config.trl.get("gradient_checkpointing"):
            model.gradient_checkpointing_enable({"use_reentrant": False})
        adapter = LoraConfig(r=block.lora, lora_alpha=2 * block.lora, target_modules=LANGUAGE) if block.lora else None
        self.model: Any = model if adapter is None else get_peft_model(model, adapter)
        self.model.train()
        self.trained = {name: weights for name, weights in self.model.named_parameters() if weights.requires_grad}
        self.optimizer = torch.optim.AdamW(self.trained.values(), lr=block.lr, weight_decay=0.0)

    def __call__(self, outcome_B: torch.Tensor, parts: Iterable[list[int]], logps: Scorer) -> torch.Tensor:
        """[B,T] the implicit rewards of this process's answers, after which the model has learned from them.

        `outcome_B` is in [0, 1], NaN for what nothing is learned from; `parts` are the places of the answers in one forward pass each.
        """
        known_B = ~outcome_B.isnan()
        judged = self._sum(known_B.sum().to(torch.float32))
        count = judged.clamp(min=1)
        right, loss, rewards = torch.zeros(()), torch.zeros(()), []
        for places in parts:
            with torch.no_grad(), self._before() as first:
                before = logps(first, places)
            reward = self.block.beta * (logps(self.model, places) - before)
            value, label, known = reward.sum(1), outcome_B[places].to(reward), known_B[places].to(reward.device)
            part = binary_cross_entropy_with_logits(value[known], label[known], reduction="sum") / count.to(reward.device)
            part.backward()
            loss += part.detach().cpu()
            right += ((value > 0) == (label > 0.5))[known].sum().cpu()
            rewards.append(reward.detach())
        if judged > 0:
            self._learn()
        self.figures = {"implicit/loss": self._sum(loss).item(), "implicit/accuracy": (self._sum(right) / count).item()}
        return torch.cat(rewards)

    def _learn(self) -> None:
        for weights in self.trained.values():
            weights.grad = self._sum(torch.zeros_like(weights) if weights.grad is None else weights.grad)
        torch.nn.utils.clip_grad_norm_(list(self.trained.values()), self.block.grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _sum(self, value: torch.Tensor) -> torch.Tensor:
        """Over all processes."""
        one = self.accelerator.num_processes == 1
        return value if one else self.accelerator.reduce(value.to(self.accelerator.device), "sum").to(value.device)  # type: ignore[union-attr]

    @contextlib.contextmanager
    def _before(self) -> Iterator[Any]:
        if self.first is not None:
            yield self.first
            return
        with self.model.disable_adapter():
            yield self.model

    def state(self) -> dict[str, Any]:
        """All that `recall` needs to go on to the same numbers."""
        return {"weights": {name: weights.detach() for name, weights in self.trained.items()}, "optimizer": self.optimizer.state_dict()}

    def recall(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        with torch.no_grad():
            for name, weights in self.trained.items():
                weights.copy_(state["weights"][name])
        self.optimizer.load_state_dict(state["optimizer"])
