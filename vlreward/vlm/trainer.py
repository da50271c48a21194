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

Rollouts of several turns go through TRL's `rollout_func` (`_converse`), whose mask keeps what the policy did not write out of the loss.
"""

from __future__ import annotations

import math
import random
import time
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from peft import LoraConfig
from torch.nn.functional import pad
from torch.utils.data import Sampler
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from vlreward.advantages.base import dead_fraction
from vlreward.advantages.segments import offsets_of
from vlreward.errors import ConfigError
from vlreward.rewards.judges import Judges
from vlreward.run import RunFolder, rank
from vlreward.types import RewardTable, Rollout, Sample
from vlreward.vlm import blocks, served, sharded
from vlreward.vlm.batches import beside, distinct_of, in_order
from vlreward.vlm.best import HeldOut, forget_others
from vlreward.vlm.checkpoints import aside, read_whole
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.correction import shape
from vlreward.vlm.guide import GivenStart
from vlreward.vlm.policy import LANGUAGE
from vlreward.vlm.prefill import generate
from vlreward.vlm.prompts import Prompt, messages, read
from vlreward.vlm.record import Record
from vlreward.vlm.rewriting import rewritten
from vlreward.vlm.rounds import Round, Selection, first, one_after_the_other, share
from vlreward.vlm.settings import grpo_config
from vlreward.vlm.shared_prefix import pack, score, unsuitable
from vlreward.vlm.signals import Signals
from vlreward.vlm.stages import Leg, ends, one_stream
from vlreward.vlm.talk import Host, Tails, Talk

BUFFER = "rollouts-{}.pt"
T = TypeVar("T")
IMPLICIT_MODEL = "implicit.pt"


class VLGRPOTrainer(GRPOTrainer):
    """TRL's trainer for one run."""

    def __init__(
        self, config: TrainVLM, folder: RunFolder, policy: Any, processor: Any, samples: Sequence[Sample], legs: Sequence[Leg] = ()
    ):
        self.config, self.folder, self.samples = config, folder, samples
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
            rollout_func=self._converse if config.turns else None,
        )
        self.signals = Signals(self)
        sharded.check(self.accelerator, samples, turns=config.turns is not None)
        served.check(self.args, samples, config.turns is not None, self.accelerator.num_processes)
        if config.policy.shared_prefix:
            for model in filter(None, (policy, self.ref_model)):
                blocks.use(model)
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
        judged = self.judged
        if self.config.control == "shuffle_rewards":
            order = list(range(len(self.group_B)))
            random.Random(f"{self.config.run.seed}/control/{self.batches}").shuffle(order)
            judged = judged.reordered(order)
        judged = replace(judged, by_token=self.signals(judged))
        advantage = self._advantage(judged, out["completion_mask"])
        assert bool(torch.isfinite(advantage).all()), f"{type(self.config.advantage).__name__} gave an advantage that is not finite"
        out["advantages"] = advantage.to(out["advantages"])
        self.signals.leave_out(out, self.config.advantage.learned(judged, self.group_B))
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
            return self._mine(advantage(table, self.group_B))
        texts: Any = self.processing_class
        offsets = [places for _, places in self.tails]
        offsets = offsets or [offsets_of(ids, lambda part: texts.decode(part, skip_special_tokens=True)) for ids in self.written]
        offsets = gather_object(offsets)
        by_token = advantage.tokens(table, self.group_B, offsets)
        assert by_token is not None, f"{type(advantage).__name__} tells no tokens apart after all"
        return self._mine(pad(by_token, (0, max(0, mask.shape[1] - by_token.shape[1]))))[:, : mask.shape[1]]

    def _mine(self, values: torch.Tensor) -> torch.Tensor:
        """This process's rows of those of all."""
        processes, process = self._processes
        return values[process * (len(values) // processes) :][: len(values) // processes]

    def _tokenize_prompts(self, prompts: list) -> Any:
        shown = [served.pictures(self.samples[row].visuals) for row in self.rows] if self.use_vllm else None
        return [self._prompt(row).ids.tolist() for row in self.rows], shown, {}

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False) -> Any:
        start = time.monotonic()
        if self.use_vllm or self.use_transformers_continuous_batching:
            out = super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, has_tool_images)
            self._count("time/generate", time.monotonic() - start)
            return out
        model: Any = self.accelerator.unwrap_model(self.model_wrapped)
        tokenizer = getattr(self.processing_class, "tokenizer", self.processing_class)
        distinct, owner = distinct_of(self.rows) if self.asked is None else ([], list(range(len(self.asked))))
        prompts = self.asked or [self._prompt(row) for row in distinct]

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
            with sharded.whole(model):
                return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, has_tool_images)
        finally:
            restore()
            self._count("time/generate", time.monotonic() - start)

    def _converse(self, prompts: list, trainer: Any) -> dict[str, Any]:
        """Rollouts of several turns for `self.rows`, as TRL's `rollout_func` gives them."""
        assert self.config.turns is not None, "there is only one turn"
        host = Host(self.config.turns, self.processing_class, self.base, self.config.policy.clips)
        ids, shown, _ = self._tokenize_prompts(prompts)
        talks = self.talks = [Talk(self.samples[row], self._prompt(row)) for row in self.rows]

        def write(asked: Sequence[Prompt] | None) -> list[list[int]]:
            going = [talk for talk in talks if not talk.ended]
            self.asked = asked
            given, pictures, several = ids, shown, self.num_generations
            if asked is not None:
                given, several = [prompt.ids.tolist() for prompt in asked], 1
                pictures = [served.pictures([one.visual for one in talk.scene.shown]) for talk in going] if shown else None
            try:
                tokens, logps = self._generate_single_turn(given, pictures, {}, several)
            finally:
                self.asked = None
            for talk, known in zip(going, logps or (), strict=logps is not None):
                talk.expect(known)
            return tokens

        host.hold(talks, write, self._worth)
        self.figures["tools/calls"] = sum(talk.num_calls for talk in talks) / len(talks)
        self.figures["tools/failed"] = sum(action.error is not None for talk in talks for action in talk.actions) / len(talks)
        written, mine = [talk.tokens for talk in talks], [talk.mine for talk in talks]
        self.tails = [(talk.tail(self.base), talk.offsets(host.decode)) for talk in talks]
        logps = [talk.logps for talk in talks] if self.use_vllm else None
        return {"prompt_ids": ids, "completion_ids": written, "logprobs": logps, "env_mask": mine}

    def _worth(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Total rewards of answers while their rollouts go on."""
        rewards = self.leg.rewards
        return self.judges.beside(rewards, lambda: rewards(rollouts, str(self.accelerator.device)).total.tolist())

    def _generate(self, prompts: list) -> Any:
        size, sampling, processes, process = self.config.group.size, self.config.sampling, *self._processes
        rows, parts = self.rows, []
        for some in torch.arange(len(rows)).chunk(self.config.group.portions):
            self.rows = [rows[i] for i in some.tolist()]
            made = super()._generate([prompts[i] for i in some.tolist()])
            parts.append(self._round(made, self._first_group + int(some[0]) // size, len(some)))
        done, self.rows = one_after_the_other(parts), rows
        if sampling is not None:
            selection = Selection(sampling, self.config.group.prompts, size)
            selection.add(done)
            while fresh := self._fresh(selection.missing, set(selection.asked), len(selection.rounds)):
                rows, count = share(fresh, process, processes)
                self.rows = [row for row in rows for _ in range(size)]
                made = super()._generate([messages(self.samples[row]) for row in self.rows])
                before = -len(self.samples) * len(selection.rounds) + process * len(rows)
                selection.add(self._round(made, before, count * size))
            self.figures["sampled_groups"] = float(len(selection.asked))
            done = selection.part(process, processes, self.samples)
        self.rows, self.judged_later = done.rows, done.judged
        self.rollouts = [replace(one, group=self._first_group + i // size) for i, one in enumerate(done.rollouts)]
        self.tails, self.places = done.tails, list(range(len(done.rows)))
        prompt_ids, self.written, masks, completions, logprobs, self.own = done.made
        return prompt_ids, self.written, masks, completions, logprobs, {}, None, []

    def _fresh(self, count: int, used: set[int], turn: int) -> list[int]:
        """Up to `count` rows that this batch has not asked yet, in any process."""
        left = [row for row in self.leg.rows if row not in used]
        return random.Random(f"{self.config.run.seed}/sampling/{self.batches}/{turn}").sample(left, min(count, len(left)))

    def _round(self, made: tuple, group: int, count: int) -> Round:
        """The first `count` rollouts of what TRL's `_generate` gave for `self.rows`, judged; `group` is the number of their first group."""
        size = self.config.group.size
        own = [len(tokens) for tokens in made[1]]
        if self.config.correction:
            asked = [(self.samples[row], group + i // size) for i, row in enumerate(self.rows)]
            rewards, texts, device = self.leg.rewards, self.processing_class, str(self.accelerator.device)
            made, own = self.judges.beside(rewards, lambda: rewritten(self.config, rewards, made, asked, texts, device))
            self._count("corrected", sum(kept < len(tokens) for kept, tokens in zip(own[:count], made[1], strict=False)))
        likelihoods = self._likelihoods(made[1]) if self.config.reads_likelihood else [None] * len(made[1])
        self._count("tokens/generate", sum(map(sum, made[2])) if made[2] else sum(map(len, made[1])))
        made, rows = (*first(made, count), own[:count]), self.rows[:count]
        _, ids, _, completions, *_ = made
        talks = zip(self.talks[:count], likelihoods, strict=False)
        rollouts = [talk.rollout(group + i // size, likely) for i, (talk, likely) in enumerate(talks)] or [
            Rollout(sample=self.samples[row], text=said[0]["content"], group=group + i // size, num_tokens=len(tokens), likelihood=likely)
            for i, (row, said, tokens, likely) in enumerate(zip(rows, completions, ids, likelihoods[:count], strict=True))
        ]
        judged = self._waited(lambda: self.judges.begin(self.leg.rewards, rollouts, str(self.accelerator.device)))
        return Round(rows, made, rollouts, lambda: self._waited(judged), self.tails[:count])

    def _waited(self, work: Callable[[], T]) -> T:
        """What `work` gives; the time counts as the rewards'."""
        start = time.monotonic()
        try:
            return work()
        finally:
            self._count("time/reward", time.monotonic() - start)

    @property
    def _processes(self) -> tuple[int, int]:
        """How many there are, and which this one is."""
        return self.accelerator.num_processes, self.accelerator.process_index

    @property
    def _first_group(self) -> int:
        """Number of this process's first group of the batch, over the whole run."""
        wanted, (processes, process) = self.config.group.prompts, self._processes
        return self.batches * wanted + process * (wanted // processes)

    def _likelihoods(self, ids: list[list[int]]) -> list[float | None]:
        """Geometric mean of the probabilities of each text's tokens."""
        logps, _ = self._logps(self.rows, ids, self._prompt, max(map(len, ids)), [tail for tail, _ in self.tails])
        mine = [talk.mine for talk in self.talks] or [[1] * len(tokens) for tokens in ids]
        mask = torch.tensor([row + [0] * (logps.shape[1] - len(row)) for row in mine], device=logps.device)
        return ((logps * mask).sum(1) / mask.sum(1).clamp(min=1)).exp().tolist()

    @torch.no_grad()
    def _logps(
        self, rows: list[int], ids: list[list[int]], reading: Callable[[int], Prompt], width: int, tails: Sequence[Prompt] = ()
    ) -> Any:
        """Log-probability and entropy [B,width] of the tokens of texts, as answers to the samples of `rows` read by `reading`."""
        made = []
        for part in torch.arange(len(ids)).split(self.config.group.rows):
            answers = [torch.tensor(ids[i], dtype=torch.int64) for i in part.tolist()]
            own = [tails[i] for i in part.tolist()] if tails else []
            logps, entropies, _ = self._scored(self.model, [rows[i] for i in part.tolist()], answers, width, reading, own)
            made.append((logps, entropies))
        logps, entropies = zip(*made, strict=True)
        return torch.cat(logps), torch.cat(entropies)

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
                made.append(self._shared(model, rows, ids[:, kept], mask[:, kept].bool(), compute_aux_loss, tails))
                continue
            prompts = [self._prompt(row) for row in rows]
            media = beside(prompts, tails, ids, logits_to_keep, self.pad)
            seeing = partial(model, **media)
            padded = super()._get_per_token_logps_and_entropies
            made.append(padded(seeing, ids, mask, logits_to_keep, None, compute_entropy, compute_aux_loss))
        parts, entropies, aux_losses = zip(*made, strict=True)
        logps = torch.cat(parts)
        if self.config.correction and torch.is_grad_enabled():
            shape(self.inputs, logps, self.config.correction.gamma)
        return (
            self._clipped(logps),
            torch.cat(entropies) if compute_entropy else None,
            torch.stack(aux_losses).mean() if compute_aux_loss else None,
        )

    def _clipped(self, logps: torch.Tensor) -> torch.Tensor:
        """Log-probabilities whose ratio to the old ones lies within the bounds that are configured."""
        if self.config.ratio_clip is None or self.old is None or not torch.is_grad_enabled():
            return logps
        low, high = (math.log(bound) for bound in self.config.ratio_clip)
        return self.old + (logps - self.old).clamp(low, high)

    def _shared(self, model: Any, rows: list[int], ids: torch.Tensor, mask: torch.Tensor, aux: bool, tails: Sequence[Prompt] = ()) -> Any:
        answers = [tokens[kept].cpu() for tokens, kept in zip(ids, mask, strict=True)]
        return self._scored(model, rows, answers, ids.shape[1], tails=tails, aux=aux)

    def _scored(
        self, model: Any, rows: list[int], answers: list[torch.Tensor], width: int, reading: Callable[[int], Prompt] | None = None,
        tails: Sequence[Prompt] = (), aux: bool = False,
    ) -> Any:  # fmt: skip
        """As `shared_prefix.score` of answers to the samples of `rows`, read as they are or by `reading`."""
        distinct, owner = distinct_of(rows)
        prompts = [(reading or self._prompt)(row) for row in distinct]
        packed = pack(prompts, owner, answers, self.config.policy.row_tokens, self.pad, tails)
        self._count("tokens/update" if torch.is_grad_enabled() else "tokens/score", float((packed.prompt >= 0).sum()))
        with self.accelerator.autocast():
            return score(model, self.base.config, packed.to(self.accelerator.device), answers, width, aux)

    def _count(self, name: str, value: float) -> None:
        self.figures[name] = self.figures.get(name, 0.0) + value

    def _prompt(self, row: int) -> Prompt:
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
            ahead = self._step % self.repeats != 0
            kept = {
                "seconds": self.seconds,
                "step": self._step,
                "batches": self.batches,
                "inputs": self._buffered_inputs if ahead else None,
                "memory": [composite.memory for composite in self.config.composites],
                "best": self.best,
                "tails": [vars(tail) for tail, _ in self.tails] if ahead else [],
            }
            torch.save(kept, place / BUFFER.format(rank()))
            if self.signals.implicit and rank() == 0:
                torch.save(self.signals.implicit.state(), place / IMPLICIT_MODEL)
        forget_others(self.folder.path, self.best.get("step", 0))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        policy: Any = model if model is not None else self.model
        if self.config.policy.lora or sharded.in_pieces(policy):
            super()._load_from_checkpoint(resume_from_checkpoint, policy)
        else:
            read_whole(policy, resume_from_checkpoint)
        self._recall(resume_from_checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.is_deepspeed_enabled and checkpoint is not None:
            self._recall(checkpoint)

    def _recall(self, resume_from_checkpoint: str) -> None:
        """What `_save_checkpoint` kept beside TRL's files."""
        kept = torch.load(Path(resume_from_checkpoint).parent / BUFFER.format(rank()), weights_only=True)
        if self.signals.implicit:
            saved = torch.load(Path(resume_from_checkpoint).parent / IMPLICIT_MODEL, self.accelerator.device, weights_only=True)
            self.signals.implicit.recall(saved)
        self.earlier = kept["seconds"]
        for composite, memory in zip(self.config.composites, kept["memory"], strict=True):
            composite.recall(memory)
        self._step, self.batches, self._buffered_inputs = kept["step"], kept["batches"], kept["inputs"]
        self.tails = [(Prompt(**tail), ()) for tail in kept["tails"]]
        self.best = kept["best"]

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
