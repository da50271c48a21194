"""What is said of a run before it starts, and what shows that it goes wrong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vlreward.commands import align as main
from vlreward.config import load
from vlreward.flow import watch
from vlreward.flow.config import Align
from vlreward.flow.train import train


def said(capsys, config_text, tmp_path, *overrides: str) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    assert main(str(path), ["optim.epochs=1", *overrides], False, True) == 0
    return capsys.readouterr().err


def test_a_run_says_what_its_epochs_are_made_of_and_when_a_ratio_is_one(config_text, tmp_path, capsys):
    err = said(capsys, config_text, tmp_path)
    assert "self-check: ratio exactly 1; noise 0 is the ODE up to " in err
    assert "; 3,840 trained weights" in err
    assert "an epoch: 3 groups of 4 = 12 rollouts in 2 micro-batches, 4 denoising steps, 3 trained steps a rollout, 2 updates" in err
    assert "the first on-policy (every ratio is 1), the later ones off-policy; 2 updates in all" in err
    assert "1 update, on-policy (every ratio is 1, and so it should be)" in said(capsys, config_text, tmp_path, "optim.updates=1")


def test_where_there_is_no_ratio_none_is_spoken_of(config_text, tmp_path, capsys):
    err = said(capsys, config_text, tmp_path, "objective={kind: nft}", "sampler={kernel: ode, steps: 4}", "optim.updates=1")
    assert "self-check: no ratio to check" in err
    assert "1 update; 1 updates in all" in err


def test_the_memory_estimate_counts_each_part_once(config_text, tmp_path, capsys):
    err = said(capsys, config_text, tmp_path)
    line = next(line for line in err.splitlines() if line.startswith("memory: "))
    assert "46.1 kB gradients and optimiser" in line, "3,840 weights, a gradient and two moments of 4 bytes each"
    assert "15.4 kB named policies" in line, "the averaged weights are one more copy"
    latents, pictures = 12 * (1 + 2 * 3) * 4 * 8 * 8, 12 * 3 * 16 * 16
    assert f"{(latents + pictures + 12 * 3) * 4 / 1e3:.1f} kB latents and pictures of an epoch" in line


def test_activations_are_what_a_backward_pass_keeps_without_the_weights():
    layer, x = nn.Linear(32, 64), torch.randn(8, 32, requires_grad=True)
    assert watch.activations(lambda: layer(x).tanh(), layer.parameters()) == 8 * 32 * 4 + 8 * 64 * 4
    with torch.no_grad():
        assert watch.activations(lambda: layer(x).tanh(), layer.parameters()) == 0


def test_gradients_and_clips_are_logged_for_each_denoising_step(config_text, tmp_path):
    """In the update that every ratio is 1 in, a micro-batch's gradient is measured alone: the parts of one step have that step's mean."""
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    config, _ = load(
        path, ["eval=", "optim.epochs=1", "optim.updates=1", "group.micro_batch=12", "sampler.window=1", "sampler.window_from=2"], Align
    )
    row = train(config).read("metrics.jsonl")[0]
    assert row["grad_norm/step_2"] == pytest.approx(row["grad_norm"], rel=1e-5), "one micro-batch of one step is the whole update"
    assert row["clip_fraction/step_2"] == row["clip_fraction"] == 0
    config, _ = load(path, ["run.name=all", "eval=", "optim.epochs=1"], Align)
    row = train(config).read("metrics.jsonl")[0]
    norms = [row[f"grad_norm/step_{step}"] for step in range(3)]
    assert norms == sorted(norms), "the less noise is left, the harder a step pulls"
    assert sum(row[f"clip_fraction/step_{step}"] for step in range(3)) / 3 == pytest.approx(row["clip_fraction"])
