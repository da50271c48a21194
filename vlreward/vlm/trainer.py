"""GRPO on TRL's GRPOTrainer, with our rewards, advantages and run folder; each prompt and picture is read once a batch.

What is replaced, and why (a test compares each signature with TRL's):
_get_train_sampler               one stream of prompts for the whole run, so that a resumed run goes on with the same prompt
_generate_and_score_completions  rows become samples; our Advantage replaces TRL's
_tokenize_prompts                each distinct sample is read once, clips too, which TRL does not take (huggingface/trl#4144)
_generate_single_turn            a prompt's cache is filled once and repeated for its answers
_prepare_inputs                  micro-batches hold whole groups where they can, so that these share their prefix
_get_per_token_logps_and_entropies  one row for a prompt and its answers (`shared_prefix.py`)
_compute_loss                    says which samples a micro-batch is made of
_calculate_rewards               one Composite call a batch, whose table is kept (TRL: one call a reward, a broken one ends the run)
_save_checkpoint                 into the run folder, aside and renamed, with the rollouts that are not used up
_load_from_checkpoint            TRL 1.16 on transformers 5 goes on from the *first* weights where a model's saved names differ from its
                                 own, as Qwen2.5-VL's do (github.com/QwenLM/Qwen3-VL/issues/1763)
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from vlreward.advantages.base import dead_fraction
from vlreward.errors import ConfigError
from vlreward.run import Progress, RunFolder
from vlreward.types import Rollout, Sample
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.prefill import generate
from vlreward.vlm.prompts import Prompt, images, messages, read, stack
from vlreward.vlm.settings import grpo_config
from vlreward.vlm.shared_prefix import pack, score, unsuitable

BUFFER = "rollouts.pt"


class VLGRPOTrainer(GRPOTrainer):
    """TRL's trainer for one run."""

    def __init__(self, config: TrainVLM, folder: RunFolder, policy: Any, processor: Any, samples: Sequence[Sample]):
        self.config, self.folder, self.samples = config, folder, samples
        self.figures: dict[str, float] = {}
        self.batches = 0
        self.opened, self.earlier = time.monotonic(), 0.0
        self.rows: list[int] = []
        self.known: dict[int, Prompt] = {}
        self.base, self.pad = policy, int(processor.tokenizer.pad_token_id)
        reason = unsuitable(policy.config)
        if config.policy.shared_prefix and reason:
            raise ConfigError(f"is true, but {type(policy).__name__} {reason}; or set it to false", "policy.shared_prefix")
        rows = {"prompt": [messages(sample) for sample in samples], "row": list(range(len(samples)))}
        super().__init__(
            model=policy,
            reward_funcs=[_column(name) for name in config.rewards.names],
            args=grpo_config(config, folder.path),
            train_dataset=Dataset.from_dict(rows),
            processing_class=processor,
            callbacks=[_Record(self)],
        )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        clip = getattr(policy.config, "video_token_id", None)
        if clip is not None:
            self.generation_config.suppress_tokens = [*self.generation_config.suppress_tokens, clip]

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        group, args = self.config.group, self.args
        chunks = -(-args.max_steps * args.gradient_accumulation_steps // self.repeats)
        return PromptSampler(len(self.samples), group.prompts, group.size, self.repeats, chunks, self.config.run.seed)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        start = time.monotonic()
        self.rows = [item["row"] for item in inputs]
        self.known = {}
        inputs = [{"row": row, "prompt": messages(self.samples[row])} for row in self.rows]
        out = super()._generate_and_score_completions(inputs)
        judged = self.table
        if self.config.control == "shuffle_rewards":
            order = list(range(len(self.group_B)))
            random.Random(f"{self.config.run.seed}/control/{self.batches}").shuffle(order)
            judged = judged.reordered(order)
        advantage_B = self.config.advantage(judged, self.group_B)
        assert bool(torch.isfinite(advantage_B).all()), f"{type(self.config.advantage).__name__} gave an advantage that is not finite"
        out["advantages"] = advantage_B.to(out["advantages"])
        out["row"], out["place"] = torch.tensor(self.rows), torch.arange(len(self.rows))
        self.batches += 1
        self.figures |= {"time/rollout": time.monotonic() - start - self.figures["time/reward"]}
        return out

    def _tokenize_prompts(self, prompts: list) -> Any:
        pictures = [images(self.samples[row]) for row in self.rows] if self.use_vllm else None
        return [self._prompt(row).ids.tolist() for row in self.rows], pictures, {}

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False) -> Any:
        if self.use_vllm or self.use_transformers_continuous_batching:
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, has_tool_images)
        model: Any = self.accelerator.unwrap_model(self.model_wrapped)
        distinct, owner = _distinct(self.rows)
        prompts = [self._prompt(row) for row in distinct]

        def shared(input_ids: Any = None, attention_mask: Any = None, **settings: Any) -> Any:
            del model.generate
            return generate(model, prompts, owner, self.pad, **settings)

        model.generate = shared
        try:
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, has_tool_images)
        finally:
            vars(model).pop("generate", None)

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is None or self._buffered_inputs is before:
            return inputs
        self._buffered_inputs = _in_order(self._buffered_inputs)
        return self._buffered_inputs[self._step % len(self._buffered_inputs)]

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, compute_aux_loss=False,
        pixel_values=None, image_grid_thw=None, num_images=None, pixel_attention_mask=None, spatial_shapes=None, num_tiles=None,
        image_sizes=None, token_type_ids=None, mm_token_type_ids=None, image_position_ids=None,
    ) -> Any:  # fmt: skip
        made = []
        for part in torch.arange(len(input_ids)).split(batch_size or len(input_ids)):
            rows, ids, mask = [self.rows[i] for i in part.tolist()], input_ids[part], attention_mask[part]
            if self.config.policy.shared_prefix:
                made.append(self._shared(model, rows, ids[:, -logits_to_keep:], mask[:, -logits_to_keep:].bool(), compute_aux_loss))
                continue
            prompts = [self._prompt(row) for row in rows]
            media = stack(prompts, self.pad, ids.device)
            for name in ("input_ids", "attention_mask", "position_ids"):
                del media[name]
            for name in prompts[0].kinds:
                known = media[name]
                media[name] = torch.zeros_like(ids)
                media[name][:, -logits_to_keep - known.shape[1] : -logits_to_keep] = known
            seeing = partial(model, **media)
            padded = super()._get_per_token_logps_and_entropies
            made.append(padded(seeing, ids, mask, logits_to_keep, None, compute_entropy, compute_aux_loss))
        logps, entropies, aux_losses = zip(*made, strict=True)
        return (
            torch.cat(logps),
            torch.cat(entropies) if compute_entropy else None,
            torch.stack(aux_losses).mean() if compute_aux_loss else None,
        )

    def _shared(self, model: Any, rows: list[int], ids: torch.Tensor, mask: torch.Tensor, aux: bool) -> Any:
        distinct, owner = _distinct(rows)
        answers = [tokens[kept].cpu() for tokens, kept in zip(ids, mask, strict=True)]
        packed = pack([self._prompt(row) for row in distinct], owner, answers, self.config.policy.row_tokens, self.pad)
        with self.accelerator.autocast():
            return score(model, self.base.config, packed.to(ids.device), answers, ids.shape[1], aux)

    def _prompt(self, row: int) -> Prompt:
        """Read once for each batch of rollouts."""
        if row not in self.known:
            self.known[row] = read(self.processing_class, self.base, self.samples[row])
        return self.known[row]

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        self.rows = inputs["row"].tolist()
        return super()._compute_loss(model, inputs)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        start, group = time.monotonic(), self.config.group
        first = self.batches * group.prompts
        rollouts = [
            Rollout(sample=self.samples[item["row"]], text=completion[0]["content"], group=first + i // group.size, num_tokens=len(tokens))
            for i, (item, completion, tokens) in enumerate(zip(inputs, completions, completion_ids_list, strict=True))
        ]
        device = str(self.accelerator.device)
        self.table = table = self.config.rewards(rollouts, device)
        self.group_B = torch.tensor([rollout.group for rollout in rollouts], dtype=torch.int64)
        self.figures = {f"reward/{name}": table.scores[:, column].nanmean().item() for column, name in enumerate(table.names)}
        self.figures |= {
            "reward/total": table.total.nanmean().item(),
            "broken": float(table.broken.sum()),
            "dead_fraction": dead_fraction(table, self.group_B),
            "time/reward": time.monotonic() - start,
        }
        order = table.total.nan_to_num(nan=-float("inf")).argsort(descending=True, stable=True).tolist()
        best = (self.config.logged + 1) // 2
        worst = order[best:][len(order[best:]) - self.config.logged // 2 :]
        self.folder.rollouts("train", self.state.global_step + 1, rollouts, table, order[:best] + worst)
        scores = table.scores.to(torch.float32)
        return scores.masked_fill(~torch.isfinite(scores), float("nan")).to(self.accelerator.device)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step, args = self.state.global_step, self.args
        with self.folder.checkpoint(step) as place:
            usual, args.output_dir = args.output_dir, str(place)
            try:
                super()._save_checkpoint(model, trial)
            finally:
                args.output_dir = usual
            ahead = self._step % self.repeats != 0
            kept = {
                "seconds": self.seconds,
                "step": self._step,
                "batches": self.batches,
                "inputs": self._buffered_inputs if ahead else None,
                "memory": self.config.rewards.memory,
            }
            torch.save(kept, place / BUFFER)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        policy: Any = model if model is not None else self.model
        saved = type(policy).from_pretrained(resume_from_checkpoint, dtype=policy.dtype, local_files_only=True)
        policy.load_state_dict(saved.state_dict(), strict=True)
        kept = torch.load(Path(resume_from_checkpoint).parent / BUFFER, weights_only=True)
        self.earlier = kept["seconds"]
        self.config.rewards.recall(kept["memory"])
        self._step, self.batches, self._buffered_inputs = kept["step"], kept["batches"], kept["inputs"]

    @property
    def repeats(self) -> int:
        """Micro-steps that learn from one batch of rollouts."""
        assert isinstance(self.args, GRPOConfig), "TRL's trainer keeps the options it was given"
        assert self.args.steps_per_generation is not None, "TRL fills this option in"
        return self.num_iterations * self.args.steps_per_generation

    @property
    def seconds(self) -> float:
        """Spent on this run since the trainer was made, earlier sittings included."""
        return self.earlier + time.monotonic() - self.opened


class PromptSampler(Sampler[int]):
    """Rows for a whole run: `chunks` times `prompts` different ones, each `size` times in a row, each such chunk `repeats` times.

    Pass after pass over the data, each in an order that follows from the seed and the pass; what is left over at a pass's end waits
    for a later one.
    """

    def __init__(self, num_rows: int, prompts: int, size: int, repeats: int, chunks: int, seed: int):
        assert num_rows >= prompts, f"{num_rows} samples are fewer than one step's {prompts}"
        self.num_rows, self.prompts, self.size, self.repeats, self.chunks, self.seed = num_rows, prompts, size, repeats, chunks, seed

    def __len__(self) -> int:
        return self.chunks * self.prompts * self.size * self.repeats

    def __iter__(self) -> Iterator[int]:
        for chunk in range(self.chunks):
            turn, place = divmod(chunk, self.num_rows // self.prompts)
            order = list(range(self.num_rows))
            random.Random(f"{self.seed}/data/{turn}").shuffle(order)
            chosen = order[place * self.prompts : (place + 1) * self.prompts]
            yield from [row for row in chosen for _ in range(self.size)] * self.repeats


def _distinct(rows: Sequence[int]) -> tuple[list[int], list[int]]:
    """The different rows in the order they come, and for each row which of those it is."""
    distinct = list(dict.fromkeys(rows))
    return distinct, [distinct.index(row) for row in rows]


def _in_order(batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same micro-batches with all rows back in the order in which they were sampled, so that groups lie together."""
    order = torch.cat([batch["place"] for batch in batches]).argsort()
    parts = order.split(len(order) // len(batches))

    def sorted_rows(name: str, value: Any) -> list[Any]:
        if isinstance(value, torch.Tensor) and value.ndim:
            merged = torch.cat([batch[name] for batch in batches])
            return [merged[part.to(merged.device)] for part in parts]
        return [batch[name] for batch in batches]

    columns = {name: sorted_rows(name, value) for name, value in batches[0].items()}
    return [{name: values[i] for name, values in columns.items()} for i in range(len(batches))]


def _column(name: str) -> Any:
    """Stands for one term in TRL's list of rewards, where its name makes a column; the scores come from `_calculate_rewards`."""

    def term(**_: Any) -> list[float]:
        raise AssertionError(f"TRL called the reward {name!r} by itself, past the composite")

    term.__name__ = name
    return term


class _Record(TrainerCallback):
    """Logs each step to the run folder, moves the progress bar, and says when to save."""

    def __init__(self, trainer: VLGRPOTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress = Progress("train", args.max_steps, state.global_step)
        self.progress.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_save = state.global_step % self.trainer.config.optim.save_every == 0 or state.global_step == args.max_steps

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        logs = logs or {}
        if "loss" not in logs:
            return
        figures, self.trainer.figures = self.trainer.figures, {}
        names = {
            "loss/policy": "loss", "loss/kl": "kl", "entropy": "entropy", "clip_fraction": "clip_ratio/region_mean",
            "grad_norm": "grad_norm", "lr": "learning_rate", "length": "completions/mean_length",
            "truncated": "completions/clipped_ratio",
        }  # fmt: skip
        figures |= {ours: float(logs[theirs]) for ours, theirs in names.items() if logs.get(theirs) is not None}
        if "step_time" in logs:
            figures["time/update"] = logs["step_time"] - figures.get("time/rollout", 0.0) - figures.get("time/reward", 0.0)
        self.trainer.folder.log(state.global_step, **figures)
        self.progress.advance(reward=figures.get("reward/total", float("nan")))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.__exit__()
