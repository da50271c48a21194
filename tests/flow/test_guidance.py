"""Guidance in training: its unconditional half has no gradient, and is not computed twice with the same weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from vlreward.config import load
from vlreward.flow.config import Align
from vlreward.flow.models.sd3 import StableDiffusion3
from vlreward.flow.train import train
from vlreward.flow.trainer import Trainer

GUIDED = ("eval=", "optim.epochs=1", "optim.ema=0", "objective.beta=0", "sampler.guidance=3")


@pytest.fixture
def guided_run(config_text, tmp_path):
    def run(name: str, *overrides: str):
        path = tmp_path / "run.yaml"
        path.write_text(config_text)
        return train(load(path, [f"run.name={name}", *GUIDED, *overrides], Align)[0])

    return run


def test_only_updates_after_the_first_compute_the_unconditional_velocity_again(guided_run, monkeypatch):
    """Two updates of one micro-batch with three steps each."""
    passes, velocity, update = [], StableDiffusion3.velocity, Trainer.update

    def counted(self, x, s, condition):
        passes.append(torch.is_grad_enabled())
        return velocity(self, x, s, condition)

    def only_updates(self, *args):
        passes.clear()
        try:
            return update(self, *args)
        finally:
            seen.append(list(passes))

    seen: list[list[bool]] = []
    monkeypatch.setattr(StableDiffusion3, "velocity", counted)
    monkeypatch.setattr(Trainer, "update", only_updates)
    guided_run("counted")
    assert seen == [[True] * 3 + [False, True] * 3]


@pytest.mark.parametrize("updates", [1, 2])
def test_what_was_kept_is_what_would_be_computed(guided_run, monkeypatch, updates):
    kept = guided_run("kept", f"optim.updates={updates}")
    bind = Trainer.bind
    monkeypatch.setattr(Trainer, "bind", lambda self, prompts, guidance, known=None: bind(self, prompts, guidance))
    anew = guided_run("anew", f"optim.updates={updates}")
    rows = [folder.read("metrics.jsonl")[0] for folder in (kept, anew)]
    assert rows[0]["grad_norm"] == rows[1]["grad_norm"] > 0
    assert (rows[0]["ratio/deviation"] == 0) == (updates == 1), "the ratio is exactly 1 with guidance too"
    first, second = (load_file(folder.path / "lora" / "pytorch_lora_weights.safetensors") for folder in (kept, anew))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
