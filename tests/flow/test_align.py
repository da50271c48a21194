"""Whole runs of the tiny random generator: what they write, what they survive, and that they can be interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from safetensors.torch import load_file

from vlreward.commands import align as main
from vlreward.config import load
from vlreward.errors import ConfigError
from vlreward.flow import evaluate
from vlreward.flow.config import Align, Optim
from vlreward.flow.train import evaluate as only_evaluate
from vlreward.flow.train import train
from vlreward.run import RunFolder

WATCHED = ("reward/", "loss/", "ratio/", "clip_fraction", "dead_fraction", "diversity", "grad_norm", "saturation", "time/", "on_policy")


def run(text: str, tmp_path: Path, overrides: tuple[str, ...] = (), **how) -> RunFolder:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    config, _ = load(path, overrides, Align)
    return train(config, **how)


def rows(folder: RunFolder) -> list[dict]:
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in folder.read("metrics.jsonl")]


def newest(folder: RunFolder) -> Path:
    found = folder.latest()
    assert found is not None
    return found[1]


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(newest(folder) / "policies.safetensors")


def test_a_run_writes_metrics_pictures_and_a_summary(config_text, tmp_path, capsys):
    folder = run(config_text, tmp_path)
    assert "ratio exactly 1" in capsys.readouterr().err
    metrics = folder.read("metrics.jsonl")
    assert [row["step"] for row in metrics] == [1, 2, 3, 4]
    assert all(any(name.startswith(prefix) for name in metrics[0]) for prefix in WATCHED)
    summary = json.loads((folder.path / "summary.json").read_text())
    assert (summary["command"], summary["steps"]) == ("align", 4)
    assert summary["held_out"].keys() == {"Brightness", "total"}
    block = summary["held_out"]["total"]
    assert block["count"] == 6
    assert block["gain"] == pytest.approx(block["after"] - block["before"])
    logged = folder.read("rollouts.jsonl")
    before, after = ([row for row in logged if row["phase"] == phase] for phase in ("before", "after"))
    assert [row["id"] for row in before] == [row["id"] for row in after]
    assert len(before) == 6
    assert all((folder.path / row["picture"]).is_file() for row in logged)
    assert json.loads((folder.path / "run.json").read_text())["status"] == "done"


@pytest.mark.parametrize(
    ("objective", "calls"), [("{kind: flow_grpo}", 12), ("{kind: dense_grpo}", 12 * 4), ("{kind: draft, last: 2}", 12 * 2)]
)
def test_every_judgement_of_an_epoch_is_counted(config_text, tmp_path, objective, calls):
    shorter = ("optim.epochs=1", "eval=null", f"objective={objective}", "rewards=[{kind: clip_score, model: assets/tiny-clip}]")
    (row,) = run(config_text, tmp_path, shorter).read("metrics.jsonl")
    assert row["reward_calls"] == calls


def test_eval_alone_scores_the_generator_as_it_comes(config_text, tmp_path):
    trained = json.loads((run(config_text, tmp_path).path / "summary.json").read_text())
    config, _ = load(tmp_path / "run.yaml", [], Align)
    folder = only_evaluate(config)
    alone = json.loads((folder.path / "summary.json").read_text())
    assert folder.path.name == "small-eval"
    assert alone["command"] == "eval"
    assert alone["held_out"]["total"]["before"] == trained["held_out"]["total"]["before"]
    assert only_evaluate(config, resume=True).read("rollouts.jsonl") == folder.read("rollouts.jsonl")


def test_two_runs_of_one_seed_are_bit_equal_and_another_seed_differs(config_text, tmp_path):
    runs = [run(config_text, tmp_path, (f"run.name=r{i}", f"run.seed={seed}")) for i, seed in enumerate((3, 3, 4))]
    assert rows(runs[0]) == rows(runs[1])
    assert rows(runs[0]) != rows(runs[2])
    first, second = weights(runs[0]), weights(runs[1])
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_one_update_an_epoch_keeps_every_ratio_at_exactly_one(config_text, tmp_path):
    folder = run(config_text, tmp_path, ("optim.updates=1",))
    for row in folder.read("metrics.jsonl"):
        assert (row["ratio/deviation"], row["clip_fraction"], row["on_policy"]) == (0, 0, 1)
        assert row["grad_norm"] > 0


def test_a_linear_schedule_falls_to_the_last_update_and_warmup_comes_on_top():
    optim = Optim(lr=1.0, epochs=4, updates=2, warmup=2, schedule="linear")
    assert [optim.rate(done) for done in range(1, 9)] == [0.5, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    assert Optim(lr=1.0, epochs=4).rate(4) == 1.0


def test_training_raises_the_reward(config_text, tmp_path):
    more = ("optim.epochs=12", "optim.lr=2e-2", "objective.beta=0", "group.size=8", "optim.ema=0", "save_every=12")
    folder = run(config_text, tmp_path, more)
    gain = json.loads((folder.path / "summary.json").read_text())["held_out"]["total"]
    assert gain["gain_low"] > 0.005
    control = run(config_text, tmp_path, (*more, "run.name=control", "control=shuffle_rewards"))
    without = json.loads((control.path / "summary.json").read_text())["held_out"]["total"]
    assert without["gain"] < gain["gain"] / 2


def test_plain_diffusers_with_the_exported_lora_draws_our_evaluation_pictures(config_text, tmp_path, pipeline_folder):
    folder = run(config_text, tmp_path, ("optim.lr=3e-2", "sampler.grid=native"))
    config, _ = load(tmp_path / "run.yaml", [], Align)
    samples = config.eval.data.samples()
    pipe: Any = StableDiffusion3Pipeline.from_pretrained(pipeline_folder, text_encoder_3=None, tokenizer_3=None)
    pipe.set_progress_bar_config(disable=True)

    def draw() -> torch.Tensor:
        return pipe(
            [sample.prompt for sample in samples], height=16, width=16, num_inference_steps=3, guidance_scale=1.0, max_sequence_length=0,
            latents=evaluate.start((4, 8, 8), samples, config.eval.seed), output_type="pt",
        ).images  # fmt: skip

    before = draw()
    pipe.load_lora_weights(folder.path / "lora")
    after = draw()
    scores = {phase: [row["scores"]["Brightness"] for row in folder.read(f"evaluation_{phase}.jsonl")] for phase in ("before", "after")}
    assert before.mean((1, 2, 3)).tolist() == pytest.approx(scores["before"], abs=1e-5)
    assert after.mean((1, 2, 3)).tolist() == pytest.approx(scores["after"], abs=1e-5)
    assert (after - before).abs().max() > 1e-3


def test_full_fine_tuning_exports_a_transformer(config_text, tmp_path, pipeline_folder):
    folder = run(config_text, tmp_path, ("generator.lora=0", "optim.epochs=2"))
    exported = load_file(folder.path / "transformer" / "diffusion_pytorch_model.safetensors")
    original = load_file(pipeline_folder / "transformer" / "diffusion_pytorch_model.safetensors")
    assert exported.keys() == original.keys()
    assert any(not torch.equal(exported[key], original[key]) for key in original)
    assert {key.split("/")[0] for key in weights(folder)} == {"train", "base", "ema"}


def test_a_judge_that_breaks_on_some_rollouts_does_not_end_the_run(config_text, tmp_path):
    text = config_text.replace("Brightness}]", "Brightness, break_above: 0.46}]")
    metrics = run(text, tmp_path).read("metrics.jsonl")
    assert all(0 < row["broken"] < 12 for row in metrics)
    assert all(row["grad_norm"] > 0 for row in metrics)


def test_a_judge_that_breaks_on_everything_leaves_the_weights_alone(config_text, tmp_path):
    text = config_text.replace("Brightness}]", "Brightness, break_above: 0.0}]").replace("beta: 0.01", "beta: 0.0")
    folder = run(text, tmp_path, ("eval=",))
    assert all(row["skipped"] == 1 and row["broken"] == 12 for row in folder.read("metrics.jsonl"))
    saved = weights(folder)
    assert all(saved[key].abs().max() == 0 for key in saved if "lora_B" in key)


def kill_when(folder: Path, step: int, process: subprocess.Popen) -> None:
    """kill -9 as soon as the run has logged a step."""
    log = folder / "metrics.jsonl"
    for _ in range(24000):
        if process.poll() is not None or (log.exists() and len(log.read_text().splitlines()) >= step):
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


LATENT = "objective={kind: euphonium, warmup: 1, guided_from: 0.3, guidance: 0.5, critic: {width: 8, updates: 2, pairs: 4}}"


@pytest.mark.parametrize("more", [(), *(pytest.param((more,), marks=pytest.mark.slow) for more in (LATENT, "generator.lora=0"))])
def test_a_killed_run_goes_on_to_the_same_bits(config_text, tmp_path, more):
    """S13: weights, averages, optimiser, what the objective keeps, logged rows and evaluations."""
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    overrides = ["optim.epochs=6", "save_every=2", *more]
    assert main(str(path), [*overrides, "run.name=whole"], False, False) == 0
    code = "import sys; from vlreward.commands import align; sys.exit(align(sys.argv[1], sys.argv[3:], sys.argv[2] == 'resume', False))"
    command = [sys.executable, "-c", code, str(path)]
    tail = [*overrides, "run.name=killed"]
    killed = tmp_path / "runs" / "killed"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": os.environ | {"HF_HUB_OFFLINE": "1"}}
    kill_when(killed, 3, subprocess.Popen([*command, "start", *tail], **quiet))
    config, _ = load(path, tail, Align)
    stopped = RunFolder(killed, config.run)
    assert len(stopped.read("metrics.jsonl")) < 6, "the run ended before it could be killed"
    assert main(str(path), tail, True, False) == 0
    whole = RunFolder(tmp_path / "runs" / "whole", config.run)
    assert rows(stopped) == rows(whole)
    first, second = weights(whole), weights(stopped)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    states = [torch.load(newest(f) / "training.pt", weights_only=True) for f in (whole, stopped)]
    moments = [[v for row in state["optimizer"]["state"].values() for v in row.values()] for state in states]
    assert all(torch.equal(a, b) for a, b in zip(*moments, strict=True))
    assert torch.equal(states[0]["torch"], states[1]["torch"])
    kept = [state["objective"].get("model", {}) for state in states]
    assert bool(kept[0]) == (LATENT in more)
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
    for name in ("evaluation_before.jsonl", "evaluation_after.jsonl"):
        assert stopped.read(name) == whole.read(name)
    key = [(row["phase"], row["step"], row["id"], row["total"]) for row in whole.read("rollouts.jsonl")]
    assert [(row["phase"], row["step"], row["id"], row["total"]) for row in stopped.read("rollouts.jsonl")] == key


def test_a_finished_run_resumes_to_the_same_summary(config_text, tmp_path):
    folder = run(config_text, tmp_path)
    first, logged = json.loads((folder.path / "summary.json").read_text()), folder.read("rollouts.jsonl")
    run(config_text, tmp_path, resume=True)
    second = json.loads((folder.path / "summary.json").read_text())
    assert second["held_out"] == first["held_out"]
    assert folder.read("rollouts.jsonl") == logged


MISTAKES = [
    ("group.siz=4", "group.siz", "Did you mean 'size'"),
    ("group.size=1", "group.size", "at least 2"),
    ("group.size=-4", "group.size", "at least 2"),
    ("group.micro_batch=5", "group.micro_batch", "divisor of size * groups = 12"),
    ("optim.updates=3", "optim.updates", "divisor of the 2 micro-batches"),
    ("optim.lr=fast", "optim.lr", "a number"),
    ("objective.kind=flow_gropo", "objective.kind", "Did you mean 'flow_grpo'"),
    ("rewards.0.kind=object_mach", "rewards.0.kind", "Did you mean 'object_match'"),
    ("sampler.noise=0", "sampler.noise", "no log-probabilities"),
    ("control=shuffle", "control", "shuffle_rewards"),
    ("advantage={kind: segment_credit, steps: [object_match]}", "advantage.kind", "a generator writes none"),
    ("generator.kind=sd4", "generator.kind", "Did you mean 'sd3'"),
]


@pytest.mark.parametrize(("override", "key", "words"), MISTAKES)
def test_mistakes_are_refused_with_key_and_remedy(config_text, tmp_path, override, key, words):
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    with pytest.raises(ConfigError) as error:
        load(path, [override], Align)
    assert error.value.key == key
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_sampler_without_log_probabilities_is_refused_with_its_line(config_text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(config_text.replace("kernel: flow_sde, noise: 0.7", "kernel: ode"))
    with pytest.raises(ConfigError, match=r"run\.yaml:6: sampler\.kernel: is 'ode', whose steps have no log-probabilities"):
        load(path, [], Align)


def test_a_reward_for_written_text_is_refused(config_text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(config_text.replace("{kind: tests/flow/brightness.py:Brightness}", "{kind: answer_format}"))
    with pytest.raises(ConfigError, match="judges text, but a generator makes pictures"):
        load(path, [], Align)


def test_a_missing_model_is_the_users_fault(config_text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    with pytest.raises(ConfigError, match=r"run\.yaml: generator\.model: is 'no/such'"):
        main(str(path), ["generator.model=no/such"], False, False)


def test_a_size_the_model_cannot_draw_is_refused(config_text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    with pytest.raises(ConfigError, match=r"generator\.pixels: is 18, expected a multiple of 4"):
        main(str(path), ["generator.pixels=18"], False, False)


def test_a_target_that_no_sample_has_is_refused(config_text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(config_text.replace("{kind: tests/flow/brightness.py:Brightness}", "{kind: ocr_match}"))
    with pytest.raises(ConfigError, match=r"rewards\.0\.kind: 'ocr_match' needs 'target\.text', which no sample of `data` has"):
        main(str(path), [], False, False)
