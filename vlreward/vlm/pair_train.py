"""`vlreward train-vlm` on preference pairs: find them, then evaluate, align and evaluate again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from vlreward.data.source import check_files
from vlreward.errors import ConfigError
from vlreward.run import Progress, RunFolder, meet, quiet, rank, seed_everything
from vlreward.types import Sample
from vlreward.vlm.pair_config import TrainPairs
from vlreward.vlm.pair_trainer import PairTrainer
from vlreward.vlm.preferences.pairs import Pair, overview, shuffled
from vlreward.vlm.preferences.sources import Mined
from vlreward.vlm.train import Sitting
from vlreward.vlm.writing import Writer

PAIRS = "pairs.jsonl"


def train_pairs(config: TrainPairs, resume: bool = False, fresh: bool = False) -> RunFolder:
    """Find the pairs, evaluate, train, evaluate again; the run's folder. Goes on from the newest checkpoint where there is one."""
    start = time.monotonic()
    samples = config.data.samples()
    check_files((sample.id, visual) for sample in samples for visual in sample.visuals)
    if isinstance(config.preferences, Mined):
        config.rewards.check(samples, "data")
    with quiet("transformers", "datasets"), Sitting(config, "train-vlm", resume, fresh) as sitting:
        folder, found = sitting.folder, sitting.folder.latest()
        folder.rewind(found[0] if found else -1)
        if config.eval and not (folder.path / "evaluation_before.jsonl").exists():
            sitting.evaluate("before", 0)
        pairs = find(config, sitting, samples)
        if len(pairs) < config.batch:
            raise ConfigError(f"gave {len(pairs)} pairs, but a step takes batch = {config.batch} of them", "preferences")
        figures = overview(pairs)
        if config.control == "shuffle_rewards":
            pairs = shuffled(pairs, config.run.seed)
        seed_everything(config.run.seed)
        opened = time.monotonic() - start
        trainer = PairTrainer(config, folder, sitting.policy, sitting.processor, pairs)
        saved = str(found[1] / f"checkpoint-{found[0]}") if found else None
        if saved and found and found[0] == config.optim.steps:
            trainer._load_from_checkpoint(saved)
        else:
            trainer.train(resume_from_checkpoint=saved)
        trainer.save_model(str(folder.path / "policy"))
        summary: dict[str, Any] = {"command": "train-vlm", "steps": config.optim.steps, "pairs": figures}
        if config.eval:
            sitting.evaluate("after", config.optim.steps)
            meet()
            summary |= sitting.figures("before", "after")
        folder.summary(summary | {"seconds": opened + trainer.seconds})
    return folder


def find(config: TrainPairs, sitting: Sitting, samples: Sequence[Sample]) -> list[Pair]:
    """The run's pairs, as its pairs.jsonl holds them; found and written first where it is not there yet."""
    folder = sitting.folder
    if not (folder.path / PAIRS).exists() and rank() == 0:
        writer = Writer(
            policy=sitting.policy, processor=sitting.processor, temperature=getattr(config.preferences, "temperature", 1.0),
            max_new_tokens=config.policy.max_new_tokens, clips=config.policy.clips, batch=getattr(config.preferences, "batch", 1),
            seed=config.run.seed,
        )  # fmt: skip
        with Progress("find pairs", len(samples)) as progress:
            pairs = config.preferences.pairs(samples, writer, config.rewards, config.labels, progress.advance)
        media = {pair.sample.id: [folder.media(visual) for visual in pair.sample.visuals] for pair in pairs}
        folder.rows(PAIRS, [pair.record | {"images": media[pair.sample.id]} for pair in pairs])
    meet()
    by_id = {sample.id: sample for sample in samples}
    return [Pair.of(by_id[row["id"]], row) for row in folder.read(PAIRS)]
