"""scripts/bench_flow.py: what each side does in an epoch, counted in rows of the network."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import pytest
import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"


@pytest.mark.parametrize(
    ("backward", "guidance", "rows", "trained"),
    [("after", 4.5, {"vlreward": 8, "flow_grpo": 8, "flow_factory": 8}, {"vlreward": 16, "flow_grpo": 32, "flow_factory": 32}),
     ("while_sampling", 1.0, {"vlreward": 4, "flow_grpo": 4, "flow_factory": 4}, {"vlreward": 16, "flow_grpo": 16, "flow_factory": 16})],
)  # fmt: skip
def test_no_side_has_more_rows_in_the_network_than_another_and_ours_trains_on_half_with_guidance(
    monkeypatch, tmp_path, backward, guidance, rows, trained
):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    bench = importlib.import_module("bench_flow")
    options = argparse.Namespace(
        layers=1, width=64, latents=8, texts=4, groups=2, size=4, micro_batch=4, own_micro_batch=None, steps=3, guidance=guidance, beta=0.0,
        own_backward=backward, device="cpu", peer=[], folder=tmp_path, result=tmp_path / "result.json",
    )  # fmt: skip
    bench.build(options, tmp_path / "model")
    seen: list[tuple[bool, int]] = []
    forward = SD3Transformer2DModel.forward

    def watched(self, *args, **kwargs):
        seen.append((torch.is_grad_enabled(), len(kwargs["hidden_states"])))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(SD3Transformer2DModel, "forward", watched)
    threads = torch.get_num_threads()
    for side in ("vlreward", *bench.PEERS):
        seen.clear()
        bench.child(argparse.Namespace(**vars(options) | {"side": side}))
        spent = json.loads(options.result.read_text())
        assert all(spent[stage] > 0 for stage in ("rollout", "update", "total"))
        assert max(count for _, count in seen) == rows[side]
        epoch = [count for grad, count in seen if grad]
        warm = bench.own_pictures(argparse.Namespace(**vars(options) | {"side": side})) / 8 if side == "vlreward" else 0.5
        assert sum(epoch) == trained[side] * (1 + warm), "of the warming epoch and the measured one"
    torch.set_num_threads(threads)
