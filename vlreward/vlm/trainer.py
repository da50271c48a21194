"""GRPO on TRL's GRPOTrainer, with our rewards, advantages and run folder.

What is replaced, and why (a test compares each signature with TRL's):
_get_train_sampler               one stream of prompts for the whole run, so that a resumed run goes on with the same prompt
_generate_and_score_completions  rows become samples with decoded pictures; our Advantage replaces TRL's
_tokenize_prompts                clips go through the processor as videos, which TRL's own path does not take (huggingface/trl#4144)
_get_per_token_logps_and_entropies  and are there again when answers are judged and learned from
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
from vlreward.run import Progress, RunFolder
from vlreward.types import Rollout, Sample
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.prompts import encode, has_clip, images, messages
from vlreward.vlm.settings import grpo_config

BUFFER = "rollouts.pt"


class VLGRPOTrainer(GRPOTrainer):
    """TRL's trainer for one run."""

    def __init__(self, config: TrainVLM, folder: RunFolder, policy: Any, processor: Any, samples: Sequence[Sample]):
        self.config, self.folder, self.samples = config, folder, samples
        self.figures: dict[str, float] = {}
        self.batches = 0
        self.opened, self.earlier = time.monotonic(), 0.0
        self.current: Sequence[Sample] = ()
        self.clips = any(has_clip(sample) for sample in samples)
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
        if self.clips:
            self.generation_config.suppress_tokens = [*self.generation_config.suppress_tokens, policy.config.video_token_id]

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        group, args = self.config.group, self.args
        chunks = -(-args.max_steps * args.gradient_accumulation_steps // self.repeats)
        return PromptSampler(len(self.samples), group.prompts, group.size, self.repeats, chunks, self.config.run.seed)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        start = time.monotonic()
        self.current = [self.samples[item["row"]] for item in inputs]
        if self.clips:
            inputs = [{"row": item["row"], "prompt": messages(sample)} for item, sample in zip(inputs, self.current, strict=True)]
        else:
            pictures = {item["row"]: images(sample) for item, sample in zip(inputs, self.current, strict=True)}
            inputs = [
                {"row": item["row"], "prompt": messages(sample), "images": pictures[item["row"]]}
                for item, sample in zip(inputs, self.current, strict=True)
            ]
        rows = torch.tensor([item["row"] for item in inputs])
        out = super()._generate_and_score_completions(inputs)
        judged = self.table
        if self.config.control == "shuffle_rewards":
            order = list(range(len(self.group_B)))
            random.Random(f"{self.config.run.seed}/control/{self.batches}").shuffle(order)
            judged = judged.reordered(order)
        advantage_B = self.config.advantage(judged, self.group_B)
        assert bool(torch.isfinite(advantage_B).all()), f"{type(self.config.advantage).__name__} gave an advantage that is not finite"
        out["advantages"] = advantage_B.to(out["advantages"])
        out["row"] = rows
        self.batches += 1
        self.figures |= {"time/rollout": time.monotonic() - start - self.figures["time/reward"]}
        return out

    def _tokenize_prompts(self, prompts: list) -> Any:
        if not self.clips:
            return super()._tokenize_prompts(prompts)
        inputs = encode(self.processing_class, self.current)
        kept = inputs.pop("attention_mask").bool()
        inputs["mm_token_type_ids"] = [kinds[mask].tolist() for kinds, mask in zip(inputs["mm_token_type_ids"], kept, strict=True)]
        ids = [tokens[mask].tolist() for tokens, mask in zip(inputs.pop("input_ids"), kept, strict=True)]
        return ids, None, dict(inputs)

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, compute_aux_loss=False,
        pixel_values=None, image_grid_thw=None, num_images=None, pixel_attention_mask=None, spatial_shapes=None, num_tiles=None,
        image_sizes=None, token_type_ids=None, mm_token_type_ids=None, image_position_ids=None,
    ) -> Any:  # fmt: skip
        score = super()._get_per_token_logps_and_entropies
        if not self.clips:
            return score(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, compute_aux_loss, pixel_values,
                image_grid_thw, num_images, pixel_attention_mask, spatial_shapes, num_tiles, image_sizes, token_type_ids,
                mm_token_type_ids, image_position_ids,
            )  # fmt: skip
        ids: Any = self.processing_class
        kinds = (input_ids == ids.image_token_id) + 2 * (input_ids == ids.video_token_id)
        made = []
        for rows in torch.arange(len(input_ids)).split(batch_size or len(input_ids)):
            media = encode(self.processing_class, [self.current[row] for row in rows.tolist()], input_ids.device)
            media = {name: values for name, values in media.items() if name not in ("input_ids", "attention_mask")}
            seeing = partial(model, **(media | {"mm_token_type_ids": kinds[rows]}))
            made.append(score(seeing, input_ids[rows], attention_mask[rows], logits_to_keep, None, compute_entropy, compute_aux_loss))
        logps, entropies, aux_losses = zip(*made, strict=True)
        return (
            torch.cat(logps),
            torch.cat(entropies) if compute_entropy else None,
            torch.stack(aux_losses).mean() if compute_aux_loss else None,
        )

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        self.current = [self.samples[row] for row in inputs["row"]]
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
