"""The configuration of `vlreward train-vlm`."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from vlreward.advantages.base import Advantage
from vlreward.advantages.group import GroupAdvantage
from vlreward.advantages.implicit_process import IMPLICIT
from vlreward.advantages.sampling import DynamicSampling
from vlreward.config import Bound, Count, Fraction, NotNegative, Positive, parse
from vlreward.data.source import Source
from vlreward.errors import ConfigError
from vlreward.models.prompts import Clips
from vlreward.rewards.base import Reward
from vlreward.rewards.composite import Composite
from vlreward.rewards.confidence import TextLikelihood
from vlreward.run import Device, Run
from vlreward.tools.turns import Turns
from vlreward.vlm.choosers.base import Chooser
from vlreward.vlm.correction import Correction
from vlreward.vlm.guide import Guide
from vlreward.vlm.stages import Order, Stage

OWNED = {
    "output_dir": "run.folder",
    "seed": "run.seed",
    "data_seed": "run.seed",
    "max_steps": "optim.steps",
    "num_train_epochs": "optim.steps",
    "learning_rate": "optim.lr",
    "lr_scheduler_type": "optim.schedule",
    "warmup_steps": "optim.warmup",
    "weight_decay": "optim.weight_decay",
    "max_grad_norm": "optim.grad_norm",
    "adam_beta1": "optim.betas",
    "adam_beta2": "optim.betas",
    "save_strategy": "optim.save_every",
    "save_steps": "optim.save_every",
    "num_generations": "group.size",
    "generation_batch_size": "group.prompts",
    "per_device_train_batch_size": "group.micro_batch",
    "gradient_accumulation_steps": "group.micro_batch",
    "steps_per_generation": "group.micro_batch",
    "max_completion_length": "policy.max_new_tokens",
    "temperature": "policy.temperature",
    "top_p": "policy.top_p",
    "bf16": "policy.bf16",
    "fp16": "policy.bf16",
    "use_cpu": "device",
    "reward_weights": "rewards.<i>.weight",
    "scale_rewards": "advantage",
    "multi_objective_aggregation": "advantage",
    "report_to": "run.log",
    "logging_strategy": "run.log",
    "logging_steps": "run.log",
    "logging_first_step": "run.log",
    "log_completions": "logged",
    "eval_strategy": "eval.every",
    "eval_steps": "eval.every",
    "num_generations_eval": "eval",
    "model_init_kwargs": "policy",
    "trust_remote_code": "policy",
    "resume_from_checkpoint": "--resume",
    "load_best_model_at_end": "eval.keep_best",
}  # fmt: skip
"""Options of TRL's GRPOConfig that have a key of their own here."""
VALUES = {
    "loss_type": ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"),
    "importance_sampling_level": ("token", "sequence"),
}
"""Options whose values TRL looks at in the first update, and what it takes there."""
PAIR_VALUES = {
    "loss_type": (
        "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero",
        "apo_down", "discopop", "sft", "sigmoid_norm",
    ),
}  # fmt: skip
"""The same of DPOConfig."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The `policy:` block: the model that is trained, and how it answers."""

    model: str
    """A folder with model and processor, looked for from the current folder and then from the package's repository."""
    max_new_tokens: Count = 256
    temperature: Positive = 1.0
    top_p: Annotated[float, Bound(0, 1, above=True)] = 1.0
    bf16: bool = False
    """Compute in bfloat16 on CUDA; weights that are trained stay float32."""
    lora: Annotated[int, Bound(0)] = 0
    """Rank of a LoRA on the linear layers of the language model, which is all that is trained then; 0 trains all weights."""
    freeze_vision: bool = False
    """Leave the vision tower and its projector as they are."""
    clips: Clips | None = None
    """None shows all frames of a clip as they are, of a file 16."""
    shared_prefix: bool = True
    """Learn from all answers to a prompt in one row that holds the prompt once; false pads each answer behind its own copy (TRL)."""
    row_tokens: Count = 8192
    """Longest such row; a prompt with longer answers is read again in another row."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The `group:` block: what one step samples."""

    size: Annotated[int, Bound(2)]
    """Rollouts of one prompt, which are compared with each other."""
    prompts: Count
    """Prompts a step; a step learns from size * prompts rollouts."""
    micro_batch: Count | None = None
    """Rollouts in one forward and backward pass; None is all of a step's."""
    portions: Count = 1
    """Answers are written in so many portions, each of which is judged while the next is written, where a reward waits for others."""

    def __post_init__(self):
        if self.size * self.prompts % self.rows:
            raise ConfigError(f"is {self.micro_batch}, expected a divisor of size * prompts = {self.size * self.prompts}", "micro_batch")

    @property
    def rows(self) -> int:
        """Rollouts in one forward and backward pass, counted over all processes where `micro_batch` is not given."""
        return self.micro_batch or self.size * self.prompts


@dataclass(frozen=True, kw_only=True)
class Implicit:
    """The `implicit:` block: a second model, the policy at first, that is trained on outcomes along the way (PRIME).

    Its log-ratio to the first policy is the reward of each token that the advantage `implicit_process` reads.
    """

    outcome: str
    """The term of `rewards`, in [0, 1], that it learns to foretell."""
    beta: Positive = 0.05
    lr: Positive = 1e-6
    grad_norm: Positive = 10.0
    lora: Annotated[int, Bound(0)] = 0
    """Rank of a LoRA in its language model, so that one copy of the policy is enough; 0 trains all weights, beside a second copy."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The `eval:` block: held-out samples, answered before, after and in between with the same random numbers."""

    data: Source
    temperature: NotNegative = 1.0
    """1 measures the distribution that is trained; 0 answers greedily."""
    batch: Count = 64
    seed: int = 0
    answers: Count = 1
    """Answers to each sample, whose scores are averaged; several also give its solve rate, and pass@k."""
    right: str | None = None
    """The term by which an answer is right or not; None is the first of `rewards`."""
    right_at: float = 1.0
    """The least score of a right answer."""
    choose: Chooser | None = None
    """`vlreward eval` answers by it too, and compares; a training is measured on single answers."""
    every: Annotated[int, Bound(0)] = 0
    """Steps between evaluations in the course of the run; 0 is none."""
    keep_best: bool = False
    """Save the policy with the highest mean total at one of them, the last step included, in place of the last one. It is chosen on these
    samples, so its gain on them is on the high side."""

    def __post_init__(self):
        if self.choose and not self.temperature:
            raise ConfigError("is 0, so that there would be nothing to choose between", "temperature")
        if self.choose and self.answers > 1:
            raise ConfigError(f"is {self.answers}, but a chooser is compared with one answer; remove it", "answers")
        if self.keep_best and not self.every:
            raise ConfigError("is true, but eval.every is 0; set the steps between evaluations", "keep_best")


@dataclass(frozen=True, kw_only=True)
class Optim:
    """The `optim:` block: AdamW."""

    lr: Positive
    steps: Count
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Annotated[int, Bound(0)] = 0
    """Steps over which the learning rate rises."""
    weight_decay: NotNegative = 0.0
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    grad_norm: Positive = 1.0
    """Gradients are scaled down to this length."""
    save_every: Count = 20
    """Steps between checkpoints; the last step is always saved."""


@dataclass(frozen=True, kw_only=True)
class TrainVLM:
    """A whole run."""

    run: Run
    data: Source | None = None
    """Needed unless every stage has its own."""
    policy: Policy
    group: Group
    rewards: Composite
    optim: Optim
    stages: tuple[Stage, ...] = ()
    """What the steps learn from, one entry after the other; none is one stage of `data` and `rewards`."""
    order: Order | None = None
    """None shuffles the samples in each pass."""
    advantage: Advantage = field(default_factory=GroupAdvantage)
    sampling: DynamicSampling | None = None
    implicit: Implicit | None = None
    correction: Correction | None = None
    ratio_clip: tuple[Positive, Positive] | None = None
    """Probability ratios are clipped to these bounds before the loss's own clip, so that none overflows (StableReinforce: 1e-3, 1e3)."""
    guide: Guide | None = None
    eval: Evaluation | None = None
    turns: Turns | None = None
    """None is one turn, an answer."""
    trl: Mapping[str, Any] = field(default_factory=dict)
    """Options of TRL's GRPOConfig, passed on as they are: beta, loss_type, epsilon, num_iterations, ..."""
    logged: Annotated[int, Bound(0)] = 4
    """Rollouts of each step that are logged with their pictures."""
    control: Literal["none", "shuffle_rewards"] = "none"
    """`shuffle_rewards` hands each step's rewards to the wrong rollouts: a run that must not learn."""
    device: Device = "auto"

    def __post_init__(self):
        if self.data is None and not self.stages:
            raise ConfigError("the key 'data' is missing")
        for i, stage in enumerate(self.stages):
            if self.data is None and stage.data is None:
                raise ConfigError("the key 'data' is missing, here and in the run", f"stages.{i}")
        if self.guide and (self.trl.get("use_vllm") or self.trl.get("use_transformers_continuous_batching")):
            raise ConfigError("works where the policy itself writes the answers; remove it or the faster engine under 'trl'", "guide")
        if self.eval and self.eval.right not in (None, *self.rewards.names):
            raise ConfigError(
                f"no term of `rewards` is called {self.eval.right!r}; there are {', '.join(self.rewards.names)}", "eval.right"
            )
        if self.trl:
            check_trl(self.trl)
        if self.ratio_clip and not self.ratio_clip[0] < 1 < self.ratio_clip[1]:
            raise ConfigError(f"is {list(self.ratio_clip)}, expected bounds around 1", "ratio_clip")
        self._check_turns()
        if self.reads_likelihood and not self.policy.shared_prefix:
            raise ConfigError("is false, but 'text_likelihood' reads what only the shared forward gives", "policy.shared_prefix")
        self._check_implicit()
        self._check_correction()
        if self.advantage.reads and not self.policy.shared_prefix:
            raise ConfigError("is false, but the advantage reads what only the shared forward gives", "policy.shared_prefix")

    def _check_turns(self) -> None:
        if self.turns is None:
            return
        if self.trl.get("use_transformers_continuous_batching"):
            raise ConfigError(
                "shows pictures in the middle, which continuous batching does not; use vLLM (trl.use_vllm) or neither", "turns"
            )
        if self.advantage.reads:
            raise ConfigError("reads what each token hangs on, which goes with one turn so far; remove `turns`", "advantage")
        for name, given in (("correction", self.correction), ("guide", self.guide), ("eval.choose", self.eval and self.eval.choose)):
            if given:
                raise ConfigError("works on answers of one turn so far; remove it, or `turns`", name)
        if self.turns.reflect and self.turns.reflect.below is not None and self.group.portions > 1:
            raise ConfigError("judges answers while others are written, as `turns.reflect.below` does; set it to 1", "group.portions")

    def _check_correction(self) -> None:
        if self.correction is None:
            return
        self._everywhere(self.correction.steps, "correction.steps")
        self._everywhere(self.correction.outcome, "correction.outcome")
        if self.trl.get("use_vllm"):
            raise ConfigError("is given, but vLLM has no probabilities for corrected tokens; set trl.use_vllm to false", "correction")

    def _check_implicit(self) -> None:
        if (IMPLICIT in self.advantage.reads) != (self.implicit is not None):
            if self.implicit:
                raise ConfigError("is given, but the advantage does not read it; use {kind: implicit_process}, or remove it", "implicit")
            raise ConfigError("reads implicit rewards; add the block `implicit: {outcome: <a term of rewards>}`", "advantage")
        if self.implicit is None:
            return
        for reward in self._everywhere(self.implicit.outcome, "implicit.outcome"):
            low, high = reward.bounds
            if low < 0 or high > 1:
                raise ConfigError(f"is {self.implicit.outcome!r}, which lies in [{low:g}, {high:g}], expected [0, 1]", "implicit.outcome")

    def _everywhere(self, name: str, key: str) -> list[Reward]:
        """The rewards of the term called that, of the run and of each stage. Raises ConfigError where one has none."""
        for composite in self.composites:
            if name not in composite.names:
                raise ConfigError(f"is {name!r}, but the terms of `rewards` are {', '.join(composite.names)}", key)
        return [term.reward for composite in self.composites for term in composite.terms if term.name == name]

    @property
    def reads_likelihood(self) -> bool:
        """Whether a term asks how likely the policy held its text."""
        return any(isinstance(term.reward, TextLikelihood) for composite in self.composites for term in composite.terms)

    @property
    def composites(self) -> tuple[Composite, ...]:
        """The run's rewards, then those of the stages that have their own."""
        return (self.rewards, *(stage.rewards for stage in self.stages if stage.rewards is not None))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all terms of any stage."""
        return tuple(dict.fromkeys(name for composite in self.composites for name in composite.names))


def check_trl(
    options: Mapping[str, Any],
    arguments: type | None = None,
    owned: Mapping[str, str] = OWNED,
    values: Mapping[str, tuple[str, ...]] = VALUES,
) -> None:
    """Refuse what is no option of TRL's `arguments` (GRPOConfig) or none of its `values`, or is set by another key. Raises ConfigError."""
    from trl.trainer.grpo_config import GRPOConfig

    arguments = arguments or GRPOConfig
    known = [option.name for option in dataclasses.fields(arguments) if option.init]
    for name in options:
        if name in owned:
            raise ConfigError(f"is set by {owned[name]!r} here; remove it", f"trl.{name}")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"TRL's {arguments.__name__} has no such option.{hint}", f"trl.{name}")
        if name in values:
            given = options[name] if isinstance(options[name], list) else [options[name]]
            for value in given:
                parse(Literal[values[name]], value, f"trl.{name}")
