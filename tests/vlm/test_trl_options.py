"""TRL's own losses, ratios and masks, by the `trl:` block: on shared prefixes they come to what TRL's padded forward gives."""

from __future__ import annotations

from typing import Any

import pytest

from vlreward.vlm.train import train

OFF_POLICY = {"num_iterations": 3, "beta": 0.0}
"""Three updates on the same answers, so that ratios leave 1 and clips, masks and weights have something to do."""
OPTIONS: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "dapo": {"loss_type": "dapo", "epsilon": 0.02, "epsilon_high": 0.028},
    "bnpo": {"loss_type": "bnpo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
    "sapo": {"loss_type": "sapo"},
    "luspo": {"loss_type": "luspo", "importance_sampling_level": "sequence"},
    "vespo": {"loss_type": "vespo"},
    "two-sided clip": {"loss_type": "grpo", "delta": 1.0},
    "entropy mask": {"loss_type": "grpo", "top_entropy_quantile": 0.2},
    "entropy bonus": {"loss_type": "grpo", "entropy_coef": 0.05},
    "off-policy mask": {"loss_type": "grpo", "off_policy_mask_threshold": 1e-6},
    "biased kl": {"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False},
}


def figures(small, name: str, option: dict[str, Any], **policy: Any) -> list[dict[str, float]]:
    config = small(
        name,
        trl=OFF_POLICY | option,
        optim={"lr": 3e-3, "steps": 3},
        policy={"model": small().policy.model, "max_new_tokens": 16, "temperature": 1.3} | policy,
    )
    rows = train(config).read("metrics.jsonl")
    return [{key: value for key, value in row.items() if not key.startswith(("time/", "tokens/"))} for row in rows]


@pytest.fixture(scope="module")
def plain() -> dict[str, list]:
    return {}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_trl_means_on_shared_prefixes_what_it_means_to_trl_and_changes_the_updates(small, plain, name):
    ours = figures(small, "ours", OPTIONS[name])
    theirs = figures(small, "theirs", OPTIONS[name], shared_prefix=False)
    for row, expected in zip(ours, theirs, strict=True):
        assert row == pytest.approx(expected, rel=2e-3, abs=2e-4)
    if not plain:
        plain["rows"] = ours if name == "grpo" else figures(small, "plain", OPTIONS["grpo"])
    same = [row["grad_norm"] for row in ours] == pytest.approx([row["grad_norm"] for row in plain["rows"]], rel=1e-4)
    assert same == (name in ("grpo", "bnpo")), "the answers are equally long, and so means over tokens are means over answers"
