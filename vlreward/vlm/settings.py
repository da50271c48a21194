"""Our configuration as TRL's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trl.trainer.grpo_config import GRPOConfig

from vlreward.errors import ConfigError
from vlreward.run import device_of, world
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.pair_config import TrainPairs


def device(config: TrainVLM | TrainPairs) -> str:
    """'cpu' or 'cuda'. Raises ConfigError where the configuration asks for what is not there."""
    chosen = device_of(config.device)
    if config.policy.bf16 and chosen == "cpu":
        raise ConfigError("is true, which needs CUDA, but the run is on the CPU; remove it", "policy.bf16")
    return chosen


def grpo_config(config: TrainVLM, folder: Path) -> GRPOConfig:
    """TRL's options: ours where we have a key, the user's `trl:` block, TRL's defaults for the rest. Raises ConfigError."""
    group, optim, policy = config.group, config.optim, config.policy
    if group.prompts % world():
        raise ConfigError(f"is {group.prompts}, but each of {world()} processes takes whole groups; expected a multiple", "group.prompts")
    if group.prompts // world() % group.portions:
        mine = group.prompts // world()
        raise ConfigError(f"is {group.portions}, expected a divisor of the {mine} prompts that a process asks", "group.portions")
    share = group.size * group.prompts // world()
    rows = group.micro_batch or share
    if share % rows:
        raise ConfigError(
            f"is {rows}, expected a divisor of the {share} rollouts that each of {world()} processes has", "group.micro_batch"
        )
    schedules = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
    chosen: dict[str, Any] = {
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    } | dict(config.trl)
    try:
        return GRPOConfig(
            output_dir=str(folder / "trl"), seed=config.run.seed, max_steps=optim.steps, report_to="none",
            learning_rate=optim.lr, lr_scheduler_type=schedules[optim.schedule], warmup_steps=optim.warmup,
            weight_decay=optim.weight_decay, adam_beta1=optim.betas[0], adam_beta2=optim.betas[1], max_grad_norm=optim.grad_norm,
            num_generations=group.size, per_device_train_batch_size=rows, gradient_accumulation_steps=share // rows,
            max_completion_length=policy.max_new_tokens, temperature=policy.temperature, top_p=policy.top_p,
            use_cpu=device(config) == "cpu", bf16=policy.bf16,
            logging_strategy="steps", logging_steps=1, save_strategy="no", eval_strategy="no", **chosen,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise ConfigError(f"TRL refuses its options: {str(error).splitlines()[0]}", "trl") from error
