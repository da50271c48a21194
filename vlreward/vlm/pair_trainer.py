"""Preference pairs on TRL's DPOTrainer, with our run folder; a pair's prompt and pictures are read once for both answers.

TRL asks the policy and the reference for log-probabilities of padded rows. Hooks on both put our rows in their place
(`shared_prefix.py`), and lay what comes out as TRL expects it: so clips, several pictures and prompts without any train alike, and all of
TRL's losses work on tokens that are weighed (`fine:`, `length_alpha`).

What is replaced, and why (a test compares each signature with TRL's):
_get_train_sampler     one stream of pairs for the whole run, so that a resumed run goes on with the same pair
_compute_loss          says which pairs a micro-batch is made of; a loss of segments replaces TRL's
_save_checkpoint       into the run folder, aside and renamed
_load_from_checkpoint  TRL 1.16 on transformers 5 goes on from the *first* weights for Qwen2.5-VL, here as in GRPO (see `trainer.py`)
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from vlreward.advantages.segments import offsets_of
from vlreward.errors import ConfigError
from vlreward.models.folders import LANGUAGE
from vlreward.models.prompts import messages, read
from vlreward.models.shared_prefix import Rows, masks, pack, unsuitable
from vlreward.run import RunFolder, rank, world
from vlreward.types import Sample
from vlreward.vlm.checkpoints import aside, read_whole
from vlreward.vlm.pair_config import TrainPairs
from vlreward.vlm.pair_record import PairRecord
from vlreward.vlm.preferences.fine import padded
from vlreward.vlm.preferences.pairs import Answer, Pair
from vlreward.vlm.sampler import PromptSampler
from vlreward.vlm.settings import device

CLOCK = "pairs-{}.pt"
TOKENWISE = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
"""What TRL's head gives for each position."""


class PairTrainer(DPOTrainer):
    """TRL's trainer for one run."""

    def __init__(self, config: TrainPairs, folder: RunFolder, policy: Any, processor: Any, pairs: Sequence[Pair]):
        self.config, self.folder, self.pairs, self.base = config, folder, pairs, policy
        self.figures: dict[str, float] = {}
        self.opened, self.earlier = time.monotonic(), 0.0
        self.rows: Rows | None = None
        self.pad, self.closing = int(processor.tokenizer.pad_token_id), end_token(processor, policy)
        reason = unsuitable(policy.config)
        if reason:
            raise ConfigError(f"is {config.policy.model!r}, a {type(policy).__name__}, which {reason}", "policy.model")
        rank = config.policy.lora
        adapter = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LANGUAGE, task_type="CAUSAL_LM") if rank else None
        reference = None if adapter else copy.deepcopy(policy).requires_grad_(False)
        try:
            super().__init__(
                model=policy,
                ref_model=reference,
                args=dpo_config(config, folder.path),
                data_collator=self._collate,
                train_dataset=Dataset.from_dict({"row": list(range(len(pairs))), "images": [[]] * len(pairs)}),
                processing_class=processor,
                callbacks=[PairRecord(self)],
                peft_config=adapter,
            )
        except (ValueError, NotImplementedError) as error:
            raise ConfigError(f"TRL refuses its options: {str(error).splitlines()[0]}", "trl") from error
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        models: list[Any] = [model for model in (self.model, self.ref_model) if model is not None]
        for model in models:
            model.register_forward_pre_hook(self._shared, with_kwargs=True)
            model.register_forward_hook(self._laid_out, with_kwargs=True)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        return PromptSampler(len(self.pairs), self.config.batch, 1, 1, self.args.max_steps, self.config.run.seed)

    def _collate(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """What TRL counts tokens by: [2B,1+T] answers, the chosen ones first, behind a place for what they are predicted from."""
        pairs = [self.pairs[example["row"]] for example in examples]
        tokens = [self._tokens(side) for side in _sides(pairs)]
        rows = [torch.tensor([self.pad, *ids]) for ids in tokens]
        seen = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        answered = seen.clone()
        answered[:, 0] = 0
        ids = pad_sequence(rows, batch_first=True, padding_value=self.pad)
        row = torch.tensor([example["row"] for example in examples])
        return {"input_ids": ids, "attention_mask": seen, "completion_mask": answered, "row": row}

    def _tokens(self, side: Answer) -> list[int]:
        processor: Any = self.processing_class
        return [*processor.tokenizer(side.text, add_special_tokens=False)["input_ids"], self.closing]

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: Any) -> Any:
        pairs = [self.pairs[row] for row in inputs.pop("row").tolist()]
        sides = _sides(pairs)
        tokens = [self._tokens(side) for side in sides]
        numbers: dict[str, int] = {}
        owner = [numbers.setdefault(pair.sample.id, len(numbers)) for pair in pairs] * 2
        samples: dict[int, Sample] = {number: pair.sample for number, pair in zip(owner, pairs, strict=False)}
        prompts = [read(self.processing_class, self.base, samples[number], self.config.policy.clips) for number in range(len(numbers))]
        rows = pack(prompts, owner, [torch.tensor(ids) for ids in tokens], self.config.policy.row_tokens, self.pad)
        self.rows, self.lengths, self.ratios = rows.to(self.accelerator.device), [len(ids) for ids in tokens], []
        self.weights = self._weights(tokens)
        try:
            loss = super()._compute_loss(model, inputs, return_outputs)
        finally:
            self.rows = None
        fine = self._fine(sides, tokens)
        if fine is None:
            return loss
        return (fine, loss[1]) if return_outputs else fine

    def _weights(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor | None:
        """[2B,T]"""
        if self.config.fine is None:
            return None
        half = len(tokens) // 2
        sides = [self.config.fine.weights(chosen, rejected) for chosen, rejected in zip(tokens[:half], tokens[half:], strict=True)]
        return padded([side[0] for side in sides] + [side[1] for side in sides]).to(self.accelerator.device)

    def _fine(self, sides: Sequence[Answer], tokens: Sequence[Sequence[int]]) -> torch.Tensor | None:
        """The loss of labelled segments, where that is asked for."""
        if self.config.fine is None or not self.config.fine.labels:
            return None
        policy, reference = self.ratios
        processor: Any = self.processing_class
        offsets = [offsets_of(ids, lambda part: processor.decode(part, skip_special_tokens=True)) for ids in tokens]
        return self.config.fine.loss(policy - reference, sides, offsets, self.beta)

    def _shared(self, module: Any, args: Any, options: dict[str, Any]) -> Any:
        """Before the model: our rows in place of TRL's."""
        if self.rows is None or not options.get("fused_lm_head"):
            return None
        rows = self.rows
        inputs = {"input_ids": rows.ids, "position_ids": rows.position, "attention_mask": masks(rows, self.base.config)}
        kept = {name: options[name] for name in ("output_router_logits",) if name in options}
        return args, inputs | rows.kinds | rows.media | kept | {"shift_labels": rows.labels, "fused_lm_head": True}

    def _laid_out(self, module: Any, args: Any, options: dict[str, Any], out: Any) -> Any:
        """Behind the model: each position's figures as [2B,T], weighed."""
        if self.rows is None or not options.get("fused_lm_head"):
            return None
        device = self.rows.ids.device
        steps = torch.arange(max(self.lengths), device=device)
        inside = steps < torch.tensor(self.lengths, device=device)[:, None]
        row, column = self.rows.where[:, :1].expand_as(inside), (self.rows.where[:, 1:] + steps).where(inside, 0)
        made = {field.name: getattr(out, field.name) for field in fields(out)}
        made |= {name: made[name][row, column].masked_fill(~inside, 0) for name in TOKENWISE if made[name] is not None}
        first = not self.ratios
        self.ratios.append(made["log_probs"])
        if self.weights is not None:
            made["log_probs"] = made["log_probs"] * self.weights
        if first and self.config.length_alpha:
            made["log_probs"] = made["log_probs"] + inside * (self.config.length_alpha / self.beta)
        return type(out)(**made)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with aside(self) as place:
            super()._save_checkpoint(model, trial)
            torch.save({"seconds": self.seconds}, place / CLOCK.format(rank()))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        policy: Any = model if model is not None else self.model
        if self.config.policy.lora:
            super()._load_from_checkpoint(resume_from_checkpoint, policy)
        else:
            read_whole(policy, resume_from_checkpoint)
        self.earlier = torch.load(Path(resume_from_checkpoint).parent / CLOCK.format(rank()), weights_only=True)["seconds"]

    @property
    def seconds(self) -> float:
        """Spent on this run since the trainer was made, earlier sittings included."""
        return self.earlier + time.monotonic() - self.opened


def dpo_config(config: TrainPairs, folder: Path) -> DPOConfig:
    """TRL's options: ours where we have a key, the user's `trl:` block, TRL's defaults for the rest. Raises ConfigError."""
    optim = config.optim
    if config.batch % world():
        raise ConfigError(f"is {config.batch}, but each of {world()} processes takes whole pairs; expected a multiple", "batch")
    share = config.batch // world()
    rows = config.micro_batch or share
    if share % rows:
        raise ConfigError(f"is {rows}, expected a divisor of the {share} pairs that each of {world()} processes has", "micro_batch")
    schedules = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
    chosen: dict[str, Any] = {"gradient_checkpointing": False, "dataloader_pin_memory": False, "disable_tqdm": True} | dict(config.trl)
    try:
        return DPOConfig(
            output_dir=str(folder / "trl"), seed=config.run.seed, max_steps=optim.steps, report_to="none", remove_unused_columns=False,
            learning_rate=optim.lr, lr_scheduler_type=schedules[optim.schedule], warmup_steps=optim.warmup,
            weight_decay=optim.weight_decay, adam_beta1=optim.betas[0], adam_beta2=optim.betas[1], max_grad_norm=optim.grad_norm,
            per_device_train_batch_size=rows, gradient_accumulation_steps=share // rows, max_length=None,
            use_cpu=device(config) == "cpu", bf16=config.policy.bf16,
            logging_strategy="steps", logging_steps=1, save_strategy="no", eval_strategy="no", **chosen,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise ConfigError(f"TRL refuses its options: {str(error).splitlines()[0]}", "trl") from error


def end_token(processor: Any, policy: Any) -> int:
    """The token that ends the policy's turn: the first of its end tokens that the chat template writes behind an answer."""
    ends = policy.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    turn = [*messages(Sample(id="", prompt="?")), {"role": "assistant", "content": [{"type": "text", "text": "!"}]}]
    written = processor.tokenizer(processor.apply_chat_template(turn, tokenize=False), add_special_tokens=False)["input_ids"]
    behind = written[max(i for i, token in enumerate(written) if "!" in processor.tokenizer.decode([token])) :]
    return next((token for token in behind if token in ends), ends[0] if ends else int(processor.tokenizer.eos_token_id))


def _sides(pairs: Sequence[Pair]) -> list[Answer]:
    return [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
