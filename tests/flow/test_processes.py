"""Two processes on the CPU take the steps of one: the same rollouts, the same updates, one folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import generators
import pytest
import torch
from processes import PLAIN, SHARDED, each_in_two_processes, in_two_processes, launched
from safetensors.torch import load_file

from vlreward.config import load
from vlreward.errors import ConfigError
from vlreward.flow.collect import visits
from vlreward.flow.config import Align
from vlreward.flow.descent import DividedDescent
from vlreward.flow.latent_reward import Learner, Learning
from vlreward.flow.processes import Processes
from vlreward.flow.train import train
from vlreward.run import RunFolder

BRIGHTNESS = "tests/flow/brightness.py"
EUPHONIUM = (
    "objective: {kind: euphonium, clip: 1.0e-3, warmup: 1, guided_from: 0.0, guidance: 0.5, process: 0.5, "
    "critic: {width: 8, updates: 3, pairs: 7, lr: 1.0e-2}}"
)
GRPO = "objective: {kind: flow_grpo, clip: 1.0e-3, beta: 0.01}"
MORE = ("group.groups=4", "group.micro_batch=4", "optim.updates=2", "optim.epochs=2")
ALIKE = (
    "reward/total", "dead_fraction", "diversity", "saturation", "grad_norm", "loss/policy", "ratio/deviation", "broken", "skipped",
    "preferred", "latent_reward/accuracy", "latent_reward/loss", "turning_points", "chosen",
)  # fmt: skip
LOST = (f"rewards=[{{kind: {BRIGHTNESS}:Failing, epochs: [nan, '', nan], groups: 4}}]", "optim.epochs=3", "eval=")
"""Nobody learns in the first epoch and in the last."""
GIVEN = ("group.pictures=given", "sampler={kernel: ode, steps: 4}")


@pytest.fixture
def small(config_text, tmp_path):
    def made(objective: str = GRPO, *overrides: str) -> Align:
        path = tmp_path / "run.yaml"
        path.write_text(config_text.replace(GRPO, objective).replace("Brightness}", "Brightness, break_above: 0.46}"))
        return load(path, ["run.name=one", f"run.folder={tmp_path}", *MORE, *overrides], Align)[0]

    return made


def movable(name: str) -> bool:
    """Weights that training changes, and that start at 0 where the base is not saved beside them."""
    return name.startswith("train/") and "lora_A" not in name


def same(one: RunFolder, two: RunFolder, bits: bool = True) -> None:
    """Pictures bit by bit before the first update, or up to float error; figures and weights far closer than the weights moved."""
    assert one.read("evaluation_before.jsonl") == two.read("evaluation_before.jsonl")
    rows = [folder.read("rollouts.jsonl") for folder in (one, two)]
    early = [[row for row in part if row["phase"] == "train" and row["step"] == 1] for part in rows]
    for mine, other in zip(*early, strict=True):
        assert (mine["id"], mine["picture"]) == (other["id"], other["picture"])
        assert mine["total"] == (other["total"] if bits else pytest.approx(other["total"], abs=1e-5))
    assert all((folder.path / row["picture"]).is_file() for folder, part in zip((one, two), rows, strict=True) for row in part)
    for a, b in zip(one.read("metrics.jsonl"), two.read("metrics.jsonl"), strict=True):
        for name in ALIKE:
            assert a.get(name, 0.0) == pytest.approx(b.get(name, 0.0), rel=2e-3, abs=2e-5), name
    first, second = (load_file(folder.latest()[1] / "policies.safetensors") for folder in (one, two))  # type: ignore[index]
    assert first.keys() == second.keys()
    moved = max(float((value - first.get(f"base/{name[6:]}", 0)).abs().max()) for name, value in first.items() if movable(name))
    assert moved > 1e-4
    assert max(float((value - second[name]).abs().max()) for name, value in first.items()) < 2e-2 * moved
    for name in sorted(file.relative_to(one.path) for file in one.path.glob("*/*.safetensors")):
        exported = [load_file(folder.path / name) for folder in (one, two)]
        assert exported[0].keys() == exported[1].keys()
        assert all(float((value - exported[1][key]).abs().max()) < 2e-2 * moved for key, value in exported[0].items())
    alike(*(torch.load(folder.latest()[1] / "training.pt", weights_only=True)["objective"] for folder in (one, two)))  # type: ignore[index]


def alike(one, two) -> None:
    """What an objective keeps, containers and all, up to float error."""
    assert type(one) is type(two)
    if isinstance(one, dict):
        assert one.keys() == two.keys()
    if isinstance(one, dict | list | tuple):
        assert len(one) == len(two)
        for a, b in zip(*((x.values() if isinstance(x, dict) else x) for x in (one, two)), strict=True):
            alike(a, b)
    elif isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, two, rtol=2e-2, atol=2e-5)
    else:
        assert one == (pytest.approx(two, rel=1e-4) if isinstance(one, float) else two)


def forget_the_end(folder: RunFolder) -> Path:
    """Take a finished run back to its first checkpoint; the last one, which lies aside now."""
    step, place = folder.latest() or (0, folder.path)
    assert step == 2
    aside = folder.path / "the-end"
    place.rename(aside)
    return aside


def test_two_processes_take_the_steps_of_one_and_write_one_folder(small, tmp_path):
    """With two updates an epoch, averaged weights, and rollouts whose judge breaks; one process goes on where two have stopped."""
    config = small()
    one = train(config)
    two, done = in_two_processes("align", config, tmp_path)
    same(one, two)
    assert 0 < one.read("metrics.jsonl")[0]["broken"] < 16
    assert done.stderr.count("align: 2 to do") == done.stdout.count("report: ") == 1, "only the first process speaks"
    assert done.stderr.count("self-check") == 1
    forget_the_end(two)
    train(load(tmp_path / "two.yaml", ["run.name=two"], Align)[0], resume=True)
    same(one, two)


def test_shares_of_an_update_add_up_to_all_of_it_whoever_takes_them(small):
    """Also where rows were laid into fewer micro-batches than there are processes."""
    config = small()
    updates = visits(4, 2, torch.Generator().manual_seed(0))
    assert sorted(place for update in updates for place in update) == [0, 1, 2, 3]
    parts = []
    for rank in range(2):
        one = object.__new__(Processes)
        one.count, one.rank = 2, rank
        part = one.part(config, 0)
        assert part is not None
        parts.append(part.places)
    assert sorted(parts[0] + parts[1]) == [0, 1, 2, 3]


def test_more_processes_than_an_update_has_micro_batches_are_refused(small):
    three = object.__new__(Processes)
    three.count, three.rank = 3, 0
    with pytest.raises(ConfigError, match="makes 2 micro-batches an update; 3 processes need a multiple of 3") as error:
        three.check(small())
    assert error.value.key == "group.micro_batch"


@pytest.mark.slow
def test_objectives_with_a_state_of_their_own_and_given_pictures_take_the_steps_of_one(small, given_pictures, tmp_path):
    """Noise that follows gains, turning points of all rollouts, a latent reward that leads sampling, clips and pairs of the data, and
    epochs without a reward; one process goes on where two have stopped."""
    smooth = f"rewards=[{{kind: {BRIGHTNESS}:SmoothBrightness}}]"
    data = (*GIVEN, smooth, f"data={{kind: by_prompt, path: {given_pictures}}}", "eval=")
    configs = {
        "tp_grpo": small("objective: {kind: tp_grpo, clip: 1.0e-3, calibrate: 0.05}", "eval="),
        "euphonium": small(EUPHONIUM, "eval="),
        "region_dpo": small("objective: {kind: region_dpo}", *data),
        "instruct_video": small("objective: {kind: instruct_video, part: 0.5}", *data),
        "lost": small(GRPO, *LOST),
    }
    found = each_in_two_processes("align", configs, tmp_path)
    for name, config in configs.items():
        one = train(replace(config, run=replace(config.run, name=f"one-{name}")))
        same(one, found[name])
        if name == "euphonium":
            forget_the_end(found[name])
            train(replace(config, run=replace(config.run, name="two-euphonium")), resume=True)
            same(one, found[name])


@pytest.mark.slow
def test_objectives_that_compare_rollouts_take_the_steps_of_one(small, given_pictures, tmp_path):
    """Pairs of groups, weights by what is gained, rankings of given pictures, and gradients that were taken while sampling."""
    bright = f"rewards=[{{kind: {BRIGHTNESS}:Brightness}}]"
    data = (*GIVEN, bright, f"data={{kind: by_prompt, path: {given_pictures}}}", "eval=")
    configs = {
        "flow_dpo": small("objective: {kind: flow_dpo, refresh: 1}", "eval="),
        "flow_rwr": small("objective: {kind: flow_rwr}", "eval="),
        "gdro": small("objective: {kind: gdro}", *data),
        "while_sampling": small("objective: {kind: flow_grpo, clip: 1.0e-3}", "eval=", "optim.backward=while_sampling"),
    }
    found = each_in_two_processes("align", configs, tmp_path)
    for name, config in configs.items():
        same(train(replace(config, run=replace(config.run, name=f"one-{name}"))), found[name])


@pytest.mark.slow
def test_objectives_whose_rollouts_branch_take_the_steps_of_one(small, tmp_path):
    """Their pictures are those of one process up to float error: a branch's rows may lie otherwise in a pass."""
    bright = (f"rewards=[{{kind: {BRIGHTNESS}:Brightness}}]", "eval=")
    configs = {
        "b2_diffurl": small("objective: {kind: b2_diffurl, clip: 1.0e-3, first: 2, grow: 1, stage: 1, threshold: 0.1}", *bright),
        "dense_grpo": small("objective: {kind: dense_grpo, clip: 1.0e-3, calibrate: 0.05}", *bright),
        "tempflow_grpo": small("objective: {kind: tempflow_grpo, clip: 1.0e-3}", *bright),
    }
    found = each_in_two_processes("align", configs, tmp_path)
    for name, config in configs.items():
        same(train(replace(config, run=replace(config.run, name=f"one-{name}"))), found[name], bits=False)


def test_an_update_that_nobody_learns_from_asks_deepspeed_nothing():
    divided = object.__new__(DividedDescent)
    divided.begin()
    assert divided.length() == 0
    divided.leave_out()


def test_a_latent_reward_with_fewer_pairs_than_processes_is_refused(small):
    three = object.__new__(Processes)
    three.count, three.rank, three.device = 3, 0, "cpu"
    with pytest.raises(ConfigError, match="is 2, fewer than the 3 processes that share them") as error:
        Learner(Learning(pairs=2), (4, 8, 8), lambda prompts: {}, three, 0)
    assert error.value.key == "objective.critic.pairs"


@pytest.mark.parametrize(
    ("objective", "more"),
    [
        ("objective: {kind: crd, refresh: 1, beta: 0.1}", ()),
        pytest.param("objective: {kind: nft, beta: 0.1}", ("generator.lora=0",), marks=pytest.mark.slow),
        pytest.param("objective: {kind: flow_grpo, clip: 1.0e-3, best_worst: 2}", (), marks=pytest.mark.slow),
    ],
)
def test_two_processes_that_share_the_weights_take_the_steps_of_one(small, tmp_path, objective, more):
    """Groups that lie in several processes' shares, named weights in pieces, and rows laid anew around broken judgements."""
    config = small(objective, *more)
    one = train(config)
    two, _ = in_two_processes("align", config, tmp_path, SHARDED, launched("fsdp2")[1])
    same(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsdp2", "zero2"])
def test_processes_whose_rows_belong_to_different_experts_wait_for_each_other(small, tmp_path, name):
    """Of Wan 2.2, where each row of an update has a level of its own: one row a pass and process, whose expert the other's may not be."""
    if name == "zero2":
        pytest.importorskip("deepspeed")
    folder = generators.wan(tmp_path / "model", experts=0.75)
    block = f"{{kind: wan, model: {folder}, lora: 4, pixels: 16, width: 32, frames: 5, prompt_tokens: 24}}"
    shape = ("group={groups: 2, size: 2, micro_batch: 1}", "optim.lr=0.01", "eval=", "sampler={kernel: ode, steps: 4, grid: native}")
    bright = f"rewards=[{{kind: {BRIGHTNESS}:Brightness}}]"
    config = small("objective: {kind: nft, beta: 0.1}", f"generator={block}", *shape, bright)
    one = train(config)
    environment = launched(name)[1] | {"DS_ACCELERATOR": "cpu"}
    two, _ = in_two_processes("align", config, tmp_path, SHARDED if name == "fsdp2" else PLAIN, environment)
    same(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsdp2", "zero2"])
def test_epochs_that_nobody_learns_from_end_no_run_in_parts(small, tmp_path, name):
    if name == "zero2":
        pytest.importorskip("deepspeed")
    config = small(GRPO, *LOST)
    one = train(config)
    assert [row["skipped"] for row in one.read("metrics.jsonl")] == [1, 0, 1]
    environment = launched(name)[1] | {"DS_ACCELERATOR": "cpu"}
    two, _ = in_two_processes("align", config, tmp_path, SHARDED if name == "fsdp2" else PLAIN, environment)
    same(one, two)


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "more"), [(GRPO, ()), ("objective: {kind: nft, beta: 0.1}", ("generator.lora=0",))])
def test_two_processes_that_share_moments_and_gradients_take_the_steps_of_one(small, tmp_path, objective, more):
    """DeepSpeed's ZeRO-2; one process goes on where they have stopped, and they do themselves."""
    pytest.importorskip("deepspeed")
    config = small(objective, *more)
    one = train(config)
    divided = launched("zero2")[1] | {"DS_ACCELERATOR": "cpu"}
    two, _ = in_two_processes("align", config, tmp_path, environment=divided)
    same(one, two)
    shutil.rmtree(forget_the_end(two))
    train(load(tmp_path / "two.yaml", ["run.name=two"], Align)[0], resume=True)
    same(one, two)
    whole = load_file(forget_the_end(two) / "policies.safetensors")
    in_two_processes("align", config, tmp_path, environment=divided, more=["--resume"])
    resumed = load_file(two.path / "checkpoints" / "step-000002" / "policies.safetensors")
    assert all(float((value - resumed[name]).abs().max()) < 1e-6 for name, value in whole.items())


@pytest.mark.slow
def test_two_processes_that_share_the_weights_resume_to_the_same_bits(small, tmp_path):
    config = small("objective: {kind: nft, beta: 0.1}", "generator.lora=0", "eval=")
    sharded = launched("fsdp2")[1]
    two, _ = in_two_processes("align", config, tmp_path, SHARDED, sharded)
    whole = load_file(forget_the_end(two) / "policies.safetensors")
    in_two_processes("align", config, tmp_path, SHARDED, sharded, ["--resume"])
    resumed = load_file(two.path / "checkpoints" / "step-000002" / "policies.safetensors")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
