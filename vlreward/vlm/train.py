"""`vlreward train-vlm`: a configuration in, a trained policy and its run folder out."""

from __future__ import annotations

import copy
import os
import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from accelerate import PartialState

from vlreward.data.source import check_files
from vlreward.errors import ConfigError
from vlreward.models.folders import adapted_folders, freeze_vision
from vlreward.pieces import whole
from vlreward.rewards.composite import require_judged
from vlreward.run import Progress, RunFolder, meet, quiet, seed_everything, world
from vlreward.statistics import gains
from vlreward.types import RewardTable, Rollout
from vlreward.vlm import policy
from vlreward.vlm.best import HeldOut, hand_over
from vlreward.vlm.choose import choose
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.evaluate import answer
from vlreward.vlm.first_pass import pass_figures, rates_file, solve_rates
from vlreward.vlm.pair_config import TrainPairs
from vlreward.vlm.settings import device
from vlreward.vlm.stages import course
from vlreward.vlm.trainer import VLGRPOTrainer


def evaluate(config: TrainVLM | TrainPairs, resume: bool = False, fresh: bool = False) -> RunFolder:
    """Only the held-out evaluation of the configuration's policy, in a run folder of its own (`<run.name>-eval`)."""
    config = replace(config, run=replace(config.run, name=f"{config.run.name}-eval"))
    start = time.monotonic()
    with quiet("transformers", "datasets"), Sitting(config, "eval", resume, fresh) as sitting:
        sitting.folder.rewind(-1)
        single, _ = sitting.evaluate("before", 0)
        phases, summary = ["before"], dict[str, Any](command="eval")
        if config.eval and config.eval.choose:
            summary["choose"] = choose(sitting, single)
            phases.append("after")
        summary |= sitting.figures(*phases)
        sitting.folder.summary(summary | {"seconds": time.monotonic() - start})
        return sitting.folder


def train(config: TrainVLM, resume: bool = False, fresh: bool = False) -> RunFolder:
    """Evaluate, train, evaluate again, and write what it came to; its folder. Goes on from the newest checkpoint where there is one."""
    start = time.monotonic()
    samples, legs = course(config)
    check_files((sample.id, visual) for sample in samples for visual in sample.visuals)
    with quiet("transformers", "datasets"), Sitting(config, "train-vlm", resume, fresh) as sitting:
        folder, found = sitting.folder, sitting.folder.latest()
        folder.rewind(found[0] if found else -1)
        if config.eval and not (folder.path / "evaluation_before.jsonl").exists():
            sitting.evaluate("before", 0)
        seed_everything(config.run.seed)
        opened = time.monotonic() - start
        trainer = VLGRPOTrainer(config, folder, sitting.policy, sitting.processor, samples, legs)
        if config.eval and config.eval.every:
            trainer.held_out = HeldOut(trainer, partial(sitting.evaluate, quiet=True))
        saved = str(found[1] / f"checkpoint-{found[0]}") if found else None
        if saved and found and found[0] == config.optim.steps:
            trainer._load_from_checkpoint(saved)
        else:
            trainer.train(resume_from_checkpoint=saved)
        summary: dict[str, Any] = {"command": "train-vlm", "steps": config.optim.steps}
        if trainer.best:
            hand_over(folder.path, trainer.best["step"])
            sitting.take(str(folder.path / "policy"))
            summary["best_step"] = int(trainer.best["step"])
        else:
            trainer.save_model(str(folder.path / "policy"))
        if config.eval:
            with whole(trainer.model):
                sitting.evaluate("after", config.optim.steps)
            meet()
            summary |= sitting.figures("before", "after")
        folder.summary(summary | {"seconds": opened + trainer.seconds})
    return folder


class Sitting:
    """One process's work on a run: the open folder, the policy, and its held-out evaluations. A context manager that keeps the status."""

    def __init__(self, config: TrainVLM | TrainPairs, command: str, resume: bool, fresh: bool):
        self.config, self.device, self.judging = config, device(config), False
        if world() > 1:
            PartialState(cpu=self.device == "cpu")
            if self.device == "cuda":
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        adapted_folders(config.policy.model, "policy.model")
        if command == "train-vlm" and config.eval and config.eval.choose:
            raise ConfigError("is for `vlreward eval`; a training is measured on single answers, so remove it", "eval.choose")
        if config.eval and config.eval.choose:
            config.eval.choose.check()
        self.held_out = config.eval.data.samples() if config.eval else []
        check_files((sample.id, visual) for sample in self.held_out for visual in sample.visuals)
        config.rewards.check(self.held_out, "eval.data")
        if isinstance(config, TrainVLM) or config.eval:
            for composite in getattr(config, "composites", (config.rewards,)):
                composite.load(self.device)
        self.policy, self.processor = policy.read(config.policy.model, self.device, half=config.policy.bf16 and config.policy.lora > 0)
        if config.policy.freeze_vision:
            freeze_vision(self.policy)
        self.folder = RunFolder.open(config.run, command, config, resume, fresh)

    def __enter__(self) -> Sitting:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self.folder.status("done" if kind is None else "failed")

    def take(self, model: str) -> None:
        """Go on with the policy of another folder."""
        self.policy, _ = policy.read(model, self.device, half=self.config.policy.bf16 and self.config.policy.lora > 0)

    def evaluate(self, phase: str, step: int, quiet: bool = False) -> tuple[list[Rollout], RewardTable]:
        """Answer and judge the held-out samples; every rollout is logged once, unless quiet."""
        block = self.config.eval
        assert block is not None, "there is nothing to evaluate on"
        with Progress(f"evaluate {phase}", len(self.held_out) * block.answers) as progress:
            rollouts = answer(
                self.policy, self.processor, self.held_out, temperature=block.temperature, batch=block.batch, seed=block.seed,
                max_new_tokens=self.config.policy.max_new_tokens, clips=self.config.policy.clips, answers=block.answers,
                turns=getattr(self.config, "turns", None), done=progress.advance,
            )  # fmt: skip
        memory = copy.deepcopy(self.config.rewards.memory)
        table = self.config.rewards(rollouts, self.device)
        self.config.rewards.recall(memory)
        if not self.judging:
            require_judged(table)
            self.judging = True
        if not quiet:
            known = {row["id"] for row in self.folder.read("rollouts.jsonl") if row["phase"] == phase}
            fresh = [i for i, rollout in enumerate(rollouts) if rollout.sample.id not in known]
            self.folder.rollouts(phase, step, rollouts, table, fresh)
        if block.answers > 1:
            rates = solve_rates(rollouts, table, block.right or table.names[0], block.right_at)
            self.folder.rows(rates_file(phase), rates)
        self.folder.evaluation(phase, rollouts, table)
        return rollouts, table

    def figures(self, *phases: str) -> dict[str, Any]:
        """For the summary: held-out means, the gain between two phases, and pass@k of each where samples were answered several times."""
        held_out = gains(*(self.folder.read(f"evaluation_{phase}.jsonl") for phase in phases))
        passed = {phase: pass_figures(rates) for phase in phases if (rates := self.folder.read(rates_file(phase)))}
        return {"held_out": held_out} | ({"pass_at": passed} if passed else {})
