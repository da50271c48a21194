"""Whole runs of each objective on the tiny random generator: they train, go on exactly where they stopped, and survive their judge."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vlreward.config import load
from vlreward.errors import ConfigError
from vlreward.flow.config import Align
from vlreward.flow.train import train
from vlreward.flow.trainer import Trainer
from vlreward.registry import parts
from vlreward.run import RunFolder

SETTINGS = {
    "flow_grpo": {"clip": 1e-3, "beta": 0.01},
    "grpo_guard": {"clip": 1e-3, "best_worst": 2},
    "flow_dppo": {"threshold": 1e-3},
    "tempflow_grpo": {"clip": 1e-3},
    "dense_grpo": {"clip": 1e-3, "calibrate": 0.05},
    "nft": {"beta": 0.1},
    "awm": {"slow_beta": 1.0, "beta": 0.1},
    "dgpo": {"refresh": 2},
    "crd": {"refresh": 1},
    "flow_dpo": {"refresh": 2},
    "flow_rwr": {},
    "best_of_group": {"best": 2},
    "gdro": {},
    "region_dpo": {},
    "draft": {"last": 2},
    "draft_lv": {"copies": 1},
    "instruct_video": {"part": 0.5},
    "refl": {"latest_share": 0.5},
    "tp_grpo": {"clip": 1e-3},
    "b2_diffurl": {"first": 1, "grow": 1, "stage": 1, "threshold": 0.3},
    "euphonium": {"warmup": 1, "guided_from": 0.3, "guidance": 0.5, "critic": {"width": 8, "updates": 2, "pairs": 4}},
    "latent_reward": {"critic": {"width": 8, "updates": 2, "pairs": 4}},
}
WITHOUT_A_POLICY = {"latent_reward"}
OFFLINE = ("gdro", "region_dpo", "instruct_video")
"""They are given pictures."""
SAMPLERS = {
    "sliding": {"kernel": "cps", "window": 2, "slide": 1, "share_noise": True},
    "a share of the steps": {"kernel": "dance", "trained": 0.5},
    "another window each epoch": {"kernel": "ddim_flow", "window": 1},
    "fewer steps after the window": {"kernel": "flow_sde", "window": 1, "slide": 1, "tail": "multistep", "compress": 0.5},
}


@pytest.fixture
def small(config_text: str, given_pictures: Path, tmp_path: Path):
    """A run of three epochs, by objective and changes to its sampler."""

    def made(name: str, objective: dict, lost: bool = False, sampler: dict | None = None) -> Align:
        text = config_text.replace("brightness.py:Brightness}", f"brightness.py:SmoothBrightness, lost: {str(lost).lower()}}}")
        text = text.replace("objective: {kind: flow_grpo, clip: 1.0e-3, beta: 0.01}", f"objective: {objective}")
        if sampler:
            text = text.replace("sampler: {kernel: flow_sde, noise: 0.7, steps: 4, grid: linspace}", f"sampler: {sampler | {'steps': 4}}")
        path = tmp_path / "run.yaml"
        path.write_text(text)
        more = ["optim.epochs=3", "group.micro_batch=4", "optim.updates=3", "eval="]
        if objective["kind"] in OFFLINE:
            more += [f"data={{kind: by_prompt, path: {given_pictures}}}", "group.pictures=given"]
        config, _ = load(path, [f"run.name={name}", *more], Align)
        return config

    return made


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    found = folder.latest()
    assert found is not None
    return load_file(found[1] / "policies.safetensors")


def kept(folder: RunFolder) -> dict:
    """What a run's last checkpoint holds of its optimiser and of its objective."""
    found = folder.latest()
    assert found is not None
    record = torch.load(found[1] / "training.pt", weights_only=True)
    return {name: record[name] for name in ("optimizer", "objective")}


def same(one, other) -> bool:
    """To the last bit, containers and all."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def rows(folder: RunFolder) -> list[dict]:
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in folder.read("metrics.jsonl")]


def stopped_and_resumed(config: Align, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    step = Trainer.step

    def failing(self: Trainer) -> dict[str, float]:
        if self.state.step == 2:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", failing)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    return train(config, resume=True)


def test_every_registered_objective_is_tried():
    assert set(parts("objectives")) == set(SETTINGS)


@pytest.mark.parametrize("kind", SETTINGS)
def test_it_moves_the_weights_and_resumes_to_the_same_bits(kind, small, monkeypatch):
    """S13"""
    settings = {"kind": kind} | SETTINGS[kind]
    whole = train(small("whole", settings))
    assert all((row["grad_norm"] > 0) == (row["skipped"] == 0) == (kind not in WITHOUT_A_POLICY) for row in rows(whole))
    resumed = stopped_and_resumed(small("resumed", settings), monkeypatch)
    first, second = weights(whole), weights(resumed)
    assert rows(whole) == rows(resumed)
    assert same(first, second)
    assert same(kept(whole), kept(resumed))
    assert kind in WITHOUT_A_POLICY or any(
        value.abs().max() > 0 for name, value in first.items() if name.startswith("train/") and "lora_B" in name
    )


@pytest.mark.parametrize("how", SAMPLERS)
def test_every_way_to_choose_steps_resumes_to_the_same_bits(how, small, monkeypatch):
    settings = {"kind": "flow_grpo", "clip": 1e-3}
    whole = train(small("whole", settings, sampler=SAMPLERS[how]))
    resumed = stopped_and_resumed(small("resumed", settings, sampler=SAMPLERS[how]), monkeypatch)
    assert rows(whole) == rows(resumed)
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())


@pytest.mark.parametrize("kind", [kind for kind in SETTINGS if kind != "region_dpo"])  # whose preferences are in the data
def test_a_judge_that_is_gone_neither_ends_the_run_nor_moves_the_weights(kind, small):
    settings = {"kind": kind} | {name: value for name, value in SETTINGS[kind].items() if not name.endswith("beta")}
    folder = train(small("lost", settings, lost=True))
    assert [row["skipped"] for row in rows(folder)] == [1, 1, 1]
    assert all(value.abs().max() == 0 for name, value in weights(folder).items() if "lora_B" in name)


def test_micro_batches_that_cut_groups_are_refused_where_groups_are_compared(small):
    config = small("cut", {"kind": "dgpo"})
    with pytest.raises(ConfigError, match=r"group\.micro_batch: is 6, but 'dgpo' compares whole groups; use a multiple of group\.size = 4"):
        replace(config, group=replace(config.group, micro_batch=6), optim=replace(config.optim, updates=2))


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [("nft", "window", 2), ("draft", "trained", 0.5), ("tempflow_grpo", "share_noise", True), ("dense_grpo", "trained", 0.5)],
)
def test_keys_of_the_sampler_that_an_objective_decides_itself_are_refused(small, kind, key, value):
    config = small("unused", {"kind": kind})
    schedule = replace(config.sampler.schedule, **{key: value})
    with pytest.raises(ConfigError, match=rf"sampler\.{key}: is {value}, but '{kind}' decides that itself; remove it"):
        replace(config, sampler=replace(config.sampler, schedule=schedule))
