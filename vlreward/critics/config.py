"""The configuration of `vlreward train-critic`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from vlreward.config import Bound, Count, Fraction, NotNegative, Positive
from vlreward.critics.heads.base import Head
from vlreward.critics.heads.scalar import Scalar
from vlreward.critics.losses.base import CriticLoss
from vlreward.critics.losses.bradley_terry import BradleyTerry
from vlreward.data.comparisons import Comparisons
from vlreward.errors import ConfigError, under
from vlreward.models.prompts import Clips
from vlreward.run import Device, Run


@dataclass(frozen=True, kw_only=True)
class CriticModel:
    """The `critic:` block: the trunk, and how it is read."""

    model: str
    """A folder with a vision-language model, or with a critic to go on from (its head too, where it is the same)."""
    head: Head = field(default_factory=Scalar)
    lora: Annotated[int, Bound(0)] = 0
    """Rank of a LoRA on the linear layers of the language model, which is all that is trained then, beside the head."""
    freeze: Literal["none", "vision", "trunk"] = "none"
    """What is left as it is: nothing, the vision tower with its projector, or all but the head."""
    pixels: tuple[Count, Count] | None = None
    """The least and the most pixels that a picture is shown with, in training and later alike; None shows it as it is."""
    clips: Clips | None = None
    """None shows all frames of a clip as they are, of a file 16."""
    bf16: bool = False
    """Compute in bfloat16 on CUDA; weights that are trained stay float32."""

    def __post_init__(self):
        if self.pixels and self.pixels[0] > self.pixels[1]:
            raise ConfigError(f"is {list(self.pixels)}, expected the least first", "pixels")
        if self.lora and self.freeze == "trunk":
            raise ConfigError("is 'trunk', but a LoRA trains the trunk; remove one of them", "freeze")


@dataclass(frozen=True, kw_only=True)
class CriticEvaluation:
    """The `eval:` block: held-out comparisons, judged before and after."""

    data: Comparisons
    batch: Count = 16
    """Comparisons that are judged at a time."""


@dataclass(frozen=True, kw_only=True)
class Optim:
    """The `optim:` block: AdamW."""

    lr: Positive
    steps: Count
    head_lr: Positive | None = None
    """Of the head; None is the same as the trunk's."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Annotated[int, Bound(0)] = 0
    """Steps over which the learning rate rises."""
    weight_decay: NotNegative = 0.0
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    grad_norm: Positive = 1.0
    """Gradients are scaled down to this length."""
    save_every: Count = 100
    """Steps between checkpoints; the last step is always saved."""


@dataclass(frozen=True, kw_only=True)
class TrainCritic:
    """A whole run."""

    run: Run
    data: Comparisons
    critic: CriticModel
    batch: Count
    """Comparisons a step."""
    micro_batch: Count | None = None
    """Comparisons in one forward and backward pass, of all processes together; None is all of a step's."""
    losses: tuple[CriticLoss, ...] = field(default_factory=lambda: (BradleyTerry(),))
    """What is minimised: their weighted sum."""
    optim: Optim
    eval: CriticEvaluation | None = None
    control: Literal["none", "shuffle_scores"] = "none"
    """`shuffle_scores` hands the scores to the wrong attempts: a run that must not learn."""
    device: Device = "auto"

    def __post_init__(self):
        if self.batch % (self.micro_batch or 1):
            raise ConfigError(f"is {self.micro_batch}, expected a divisor of batch = {self.batch}", "micro_batch")
        if not self.losses:
            raise ConfigError("is empty, expected at least one loss", "losses")
        for number, loss in enumerate(self.losses):
            with under(f"losses.{number}"):
                loss.check(self.critic.head)
