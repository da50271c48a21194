"""GRPO on TRL's GRPOTrainer, with our rewards, advantages and run folder; each prompt and picture is read once a batch.

What is replaced, and why (a test compares each signature with TRL's):
_get_train_sampler               one stream of prompts for the whole run, so that a resumed run goes on with the same prompt
_generate_and_score_completions  rows become samples; our Advantage replaces TRL's
_tokenize_prompts                each distinct sample is read once, clips too, which TRL does not take (huggingface/trl#4144)
_generate_single_turn            a prompt's cache is filled once and repeated for its answers
_generate                        judges what was written, corrects near misses, and replaces groups that teach nothing
_prepare_inputs                  micro-batches hold whole groups where they can, so that these share their prefix
_get_per_token_logps_and_entropies  one row for a prompt and its answers (`shared_prefix.py`)
_compute_loss                    says which samples a micro-batch is made of, its old log-probabilities and its foreign tokens
_calculate_rewards               hands over the table of one Composite call a batch (TRL: one call a reward, a broken one ends the run)
_save_checkpoint                 into the run folder, aside and renamed, with the rollouts that are not used up
_load_from_checkpoint            TRL 1.16 on transformers 5 goes on from the *first* weights where a model's saved names differ from its
                                 own, as Qwen2.5-VL's do (github.com/QwenLM/Qwen3-VL/issues/1763)
_load_optimizer_and_scheduler    DeepSpeed loads weights by itself; what we keep beside them comes back here

Rollouts of several turns go through TRL's `rollout_func` (`conversing.py`), whose mask keeps what the policy did not write out of the loss.
"""

from __future__ import annotations

import random
import time
from bisect import bisect
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from peft import LoraConfig
from torch.nn.functional import pad
from torch.utils.data import Sampler
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from vlreward import pieces
from vlreward.advantages.base import dead_fraction
from vlreward.advantages.segments import offsets_of
from vlreward.errors import ConfigError
from vlreward.models import blocks
from vlreward.models.folders import LANGUAGE
from vlreward.models.prompts import Prompt, messages, read
from vlreward.models.shared_prefix import unsuitable
from vlreward.rewards.composite import require_judged
from vlreward.rewards.judges import Judges
from vlreward.run import RunFolder
from vlreward.types import RewardTable, Sample
from vlreward.vlm import served, sharded
from vlreward.vlm.batches import beside, distinct_of, in_order
from vlreward.vlm.best import HeldOut, forget_others
from vlreward.vlm.checkpoints import aside, keep, read_whole, recall
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.conversing import converse
from vlreward.vlm.correction import shape
from vlreward.vlm.guide import GivenStart
from vlreward.vlm.prefill import generate
from vlreward.vlm.record import Record
from vlreward.vlm.rolling import fresh, judged
from vlreward.vlm.rounds import Selection, one_after_the_other, share
from vlreward.vlm.scoring import Scoring
from vlreward.vlm.settings import grpo_config
from vlreward.vlm.signals import Signals
from vlreward.vlm.stages import Leg, ends, one_stream
from vlreward.vlm.talk import Tails, Talk


class VLGRPOTrainer(GRPOTrainer):
    """TRL's trainer for one run."""

    def __init__(
        self, config: TrainVLM, folder: RunFolder, policy: Any, processor: Any, samples: Sequence[Sample], legs: Sequence[Leg] = ()
    ):
        self.config, self.folder, self.samples = config, folder, samples
        self.judging = False
        self.legs = legs or [Leg(rows=range(len(samples)), rewards=config.rewards)]
        self.figures: dict[str, float] = {}
        self.batches = 0
        self.held_out: HeldOut | None = None
        self.judges = Judges()
        self.best: dict[str, float] = {}
        self.opened, self.earlier = time.monotonic(), 0.0
        self.rows: list[int] = []
        self.places: list[int] = []
        self.talks: list[Talk] = []
        self.tails: Tails = ()
        self.asked: Sequence[Prompt] | None = None
        self.system = config.turns.system if config.turns else ""
        self.known: dict[int, Prompt] = {}
        self.scoring = Scoring(self)
        self.old: torch.Tensor | None = None
        self.base, self.pad = policy, int(processor.tokenizer.pad_token_id)
        reason = unsuitable(policy.config)
        if config.policy.shared_prefix and reason:
            raise ConfigError(f"is true, but {type(policy).__name__} {reason}; or set it to false", "policy.shared_prefix")
        rank = config.policy.lora
        adapter = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LANGUAGE, task_type="CAUSAL_LM") if rank else None
        rows = {"prompt": [messages(sample) for sample in samples], "row": list(range(len(samples)))}
        super().__init__(
            model=policy,
            reward_funcs=[_column(name) for name in config.columns],
            args=grpo_config(config, folder.path),
            train_dataset=Dataset.from_dict(rows),
            processing_class=processor,
            callbacks=[Record(self)],
            peft_config=adapter,
            rollout_func=converse if config.turns else None,
        )
        self.signals = Signals(self)
        sharded.check(self.accelerator, samples, turns=config.turns is not None)
        served.check(self.args, samples, config.turns is not None, self.accelerator.num_processes)
        if config.policy.shared_prefix:
            for model in filter(None, (policy, self.ref_model)):
                blocks.use(self.accelerator.unwrap_model(model))
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        clip = getattr(policy.config, "video_token_id", None)
        if clip is not None and not self.use_vllm:
            self.generation_config.suppress_tokens = [*self.generation_config.suppress_tokens, clip]

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        group = self.config.group
        return one_stream(self.legs, self.chunks, group.prompts, group.size, self.repeats, self.config.run.seed)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        start = time.monotonic()
        self.rows = [item["row"] for item in inputs]
        self.known, self.figures = {}, {}
        inputs = [{"row": row, "prompt": messages(self.samples[row])} for row in self.rows]
        try:
            out = super()._generate_and_score_completions(inputs)
        except KeyboardInterrupt:
            self.judges.stop()
            raise
        table = self.judged
        if self.config.control == "shuffle_rewards":
            order = list(range(len(self.group_B)))
            random.Random(f"{self.config.run.seed}/control/{self.batches}").shuffle(order)
            table = table.reordered(order)
        table = replace(table, by_token=self.signals(table))
        advantage = self._advantage(table, out["completion_mask"])
        assert bool(torch.isfinite(advantage).all()), f"{type(self.config.advantage).__name__} gave an advantage that is not finite"
        out["advantages"] = advantage.to(out["advantages"])
        self.signals.leave_out(out, self.config.advantage.learned(table, self.group_B))
        if self.config.correction:
            places = torch.arange(out["completion_mask"].shape[1], device=out["completion_mask"].device)
            out["borrowed"] = (places >= torch.tensor(self.own, device=places.device)[:, None]) & out["completion_mask"].bool()
        out["row"], out["place"] = torch.tensor(self.rows), torch.arange(len(self.rows))
        self.batches += 1
        self.figures |= {"time/rollout": time.monotonic() - start - self.figures["time/reward"]}
        return out

    def _advantage(self, table: RewardTable, mask: torch.Tensor) -> torch.Tensor:
        """[B], or [B,T] where the advantage tells tokens apart."""
        advantage = self.config.advantage
        if not advantage.per_token:
            return self.mine(advantage(table, self.group_B))
        texts: Any = self.processing_class
        offsets = [places for _, places in self.tails]
        offsets = offsets or [offsets_of(ids, lambda part: texts.decode(part, skip_special_tokens=True)) for ids in self.written]
        offsets = gather_object(offsets)
        by_token = advantage.tokens(table, self.group_B, offsets)
        assert by_token is not None, f"{type(advantage).__name__} tells no tokens apart after all"
        return self.mine(pad(by_token, (0, max(0, mask.shape[1] - by_token.shape[1]))))[:, : mask.shape[1]]

    def mine(self, values: torch.Tensor) -> torch.Tensor:
        """This process's rows of those of all."""
        processes, process = self._processes
        return values[process * (len(values) // processes) :][: len(values) // processes]

    def _tokenize_prompts(self, prompts: list) -> Any:
        shown = [served.pictures(self.samples[row].visuals) for row in self.rows] if self.use_vllm else None
        return [self.prompt(row).ids.tolist() for row in self.rows], shown, {}

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False) -> Any:
        start = time.monotonic()
        if self.use_vllm or self.use_transformers_continuous_batching:
            out = super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, has_tool_images)
            self.count("time/generate", time.monotonic() - start)
            return out
        model: Any = self.accelerator.unwrap_model(self.model_wrapped)
        tokenizer = getattr(self.processing_class, "tokenizer", self.processing_class)
        distinct, owner = distinct_of(self.rows) if self.asked is None else ([], list(range(len(self.asked))))
        prompts = self.asked or [self.prompt(row) for row in distinct]

        usual = vars(model).pop("generate", None)

        def restore() -> None:
            vars(model).pop("generate", None)
            if usual is not None:
                model.generate = usual

        def shared(input_ids: Any = None, attention_mask: Any = None, **settings: Any) -> Any:
            restore()
            if self.config.guide:
                asked = [self.samples[row] for row in self.rows]
                given = self.config.guide.given(asked, self.config.group.size, tokenizer)
                settings["logits_processor"] = [GivenStart(given)]
            return generate(model, prompts, owner, self.pad, **settings)

        model.generate = shared
        try:
            with pieces.whole(model):
                return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, has_tool_images)
        finally:
            restore()
            self.count("time/generate", time.monotonic() - start)

    def _generate(self, prompts: list) -> Any:
        size, sampling, processes, process = self.config.group.size, self.config.sampling, *self._processes
        rows, parts = self.rows, []
        for some in torch.arange(len(rows)).chunk(self.config.group.portions):
            self.rows = [rows[i] for i in some.tolist()]
            made = super()._generate([prompts[i] for i in some.tolist()])
            parts.append(judged(self, made, self._first_group + int(some[0]) // size, len(some)))
        done, self.rows = one_after_the_other(parts), rows
        if sampling is not None:
            selection = Selection(sampling, self.config.group.prompts, size)
            selection.add(done)
            while more := fresh(self, selection.missing, set(selection.asked), len(selection.rounds)):
                rows, count = share(more, process, processes)
                self.rows = [row for row in rows for _ in range(size)]
                made = super()._generate([messages(self.samples[row]) for row in self.rows])
                before = -len(self.samples) * len(selection.rounds) + process * len(rows)
                selection.add(judged(self, made, before, count * size))
            self.figures["sampled_groups"] = float(len(selection.asked))
            done = selection.part(process, processes, self.samples)
        self.rows, self.judged_later = done.rows, done.judged
        self.rollouts = [replace(one, group=self._first_group + i // size) for i, one in enumerate(done.rollouts)]
        self.tails, self.places = done.tails, list(range(len(done.rows)))
        prompt_ids, self.written, masks, completions, logprobs, self.own = done.made
        return prompt_ids, self.written, masks, completions, logprobs, {}, None, []

    @property
    def _processes(self) -> tuple[int, int]:
        """How many there are, and which this one is."""
        return self.accelerator.num_processes, self.accelerator.process_index

    @property
    def _first_group(self) -> int:
        """Number of this process's first group of the batch, over the whole run."""
        wanted, (processes, process) = self.config.group.prompts, self._processes
        return self.batches * wanted + process * (wanted // processes)

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is None or self._buffered_inputs is before:
            return inputs
        self._buffered_inputs = in_order(self._buffered_inputs)
        return self._buffered_inputs[self._step % len(self._buffered_inputs)]

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, compute_aux_loss=False,
        pixel_values=None, image_grid_thw=None, num_images=None, pixel_attention_mask=None, spatial_shapes=None, num_tiles=None,
        image_sizes=None, token_type_ids=None, mm_token_type_ids=None, image_position_ids=None,
    ) -> Any:  # fmt: skip
        made = []
        for part in torch.arange(len(input_ids)).split(batch_size or len(input_ids)):
            rows, ids, mask = [self.rows[i] for i in part.tolist()], input_ids[part], attention_mask[part]
            tails = [self.tails[self.places[i]][0] for i in part.tolist()] if self.tails else []
            if self.config.policy.shared_prefix:
                kept = slice(-logits_to_keep, None)
                made.append(self.scoring.of_padded(model, rows, ids[:, kept], mask[:, kept].bool(), compute_aux_loss, tails))
                continue
            prompts = [self.prompt(row) for row in rows]
            media = beside(prompts, tails, ids, logits_to_keep, self.pad)
            seeing = partial(model, **media)
            padded = super()._get_per_token_logps_and_entropies
            made.append(padded(seeing, ids, mask, logits_to_keep, None, compute_entropy, compute_aux_loss))
        parts, entropies, aux_losses = zip(*made, strict=True)
        logps = torch.cat(parts)
        if self.config.correction and torch.is_grad_enabled():
            shape(self.inputs, logps, self.config.correction.gamma)
        return (
            self.scoring.clipped(logps),
            torch.cat(entropies) if compute_entropy else None,
            torch.stack(aux_losses).mean() if compute_aux_loss else None,
        )

    def count(self, name: str, value: float) -> None:
        self.figures[name] = self.figures.get(name, 0.0) + value

    def prompt(self, row: int) -> Prompt:
        """Read once for each batch of rollouts."""
        if row not in self.known:
            self.known[row] = read(self.processing_class, self.base, self.samples[row], self.config.policy.clips, self.system)
        return self.known[row]

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        self.rows, self.places, self.old = inputs["row"].tolist(), inputs["place"].tolist(), inputs.get("old_per_token_logps")
        self.inputs = inputs = dict(inputs)
        return super()._compute_loss(model, inputs)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        self.table = self.judged_later()
        tables = gather_object([self.table])
        table = self.judged = RewardTable.joined(tables, [(t, row) for t, part in enumerate(tables) for row in range(len(part.scores))])
        if not self.judging:
            require_judged(table)
            self.judging = True
        self.group_B = torch.tensor(gather_object([rollout.group for rollout in self.rollouts]), dtype=torch.int64)
        self.figures |= {f"reward/{name}": table.scores[:, column].nanmean().item() for column, name in enumerate(table.names)}
        self.figures |= {
            "reward/total": table.total.nanmean().item(),
            "broken": float(table.broken.sum()),
            "dead_fraction": dead_fraction(table, self.group_B),
        }
        if len(self.legs) > 1:
            self.figures["stage"] = float(self.stage)
        order = self.table.total.nan_to_num(nan=-float("inf")).argsort(descending=True, stable=True).tolist()
        best = (self.config.logged + 1) // 2
        worst = order[best:][len(order[best:]) - self.config.logged // 2 :]
        self.folder.rollouts("train", self.state.global_step + 1, self.rollouts, self.table, order[:best] + worst)
        scores = torch.full((len(table.scores), len(self.config.columns)), float("nan"))
        scores[:, [self.config.columns.index(name) for name in table.names]] = table.scores.to(torch.float32)
        return scores.masked_fill(~torch.isfinite(scores), float("nan")).to(self.accelerator.device)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with aside(self) as place:
            super()._save_checkpoint(model, trial)
            keep(self, place)
        forget_others(self.folder.path, self.best.get("step", 0))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        policy: Any = model if model is not None else self.model
        if self.config.policy.lora or pieces.in_pieces(policy):
            super()._load_from_checkpoint(resume_from_checkpoint, policy)
        else:
            read_whole(policy, resume_from_checkpoint)
        recall(self, resume_from_checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.is_deepspeed_enabled and checkpoint is not None:
            recall(self, checkpoint)

    @property
    def repeats(self) -> int:
        """Micro-steps that learn from one batch of rollouts."""
        assert isinstance(self.args, GRPOConfig), "TRL's trainer keeps the options it was given"
        assert self.args.steps_per_generation is not None, "TRL fills this option in"
        return self.num_iterations * self.args.steps_per_generation

    @property
    def chunks(self) -> int:
        """Batches of rollouts in the whole run."""
        return -(-self.args.max_steps * self.args.gradient_accumulation_steps // self.repeats)

    @property
    def leg(self) -> Leg:
        """The one that the next batch of rollouts belongs to."""
        return self.legs[self.stage - 1]

    @property
    def stage(self) -> int:
        """Its number, from 1 on."""
        return 1 + min(bisect(ends([leg.share for leg in self.legs], self.chunks), self.batches), len(self.legs) - 1)

    @property
    def seconds(self) -> float:
        """Spent on this run since the trainer was made, earlier sittings included."""
        return self.earlier + time.monotonic() - self.opened


def _column(name: str) -> Any:
    """Stands for one term in TRL's list of rewards, where its name makes a column; the scores come from `_calculate_rewards`."""

    def term(**_: Any) -> list[float]:
        raise AssertionError(f"TRL called the reward {name!r} by itself, past the composite")

    term.__name__ = name
    return term
