"""Each tiny recipe of an advantage gives, on answers of its own task, a signal in the right direction."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoTokenizer

from vlreward.advantages.segments import offsets_of
from vlreward.config import part
from vlreward.rewards.composite import Composite
from vlreward.types import Rollout, Sample

ROOT = Path(__file__).parents[2]
TEXTS = {path: path.read_text() for path in sorted((ROOT / "configs/vlm").glob("tiny_*.yaml"))}
RECIPES = [path for path, text in TEXTS.items() if text.startswith("# As tiny_") and "\nadvantage:" in text]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(ROOT / "assets/tiny-vlm")


def attempts(sample: Sample, group: int) -> list[Rollout]:
    """Eight answers: the first one right, the others wrong in several ways, the third with the most confidence."""
    right = sample.target["answer"] if "answer" in sample.target else str([round(x) for x in sample.target["boxes"][0]])
    far = "9" if "answer" in sample.target else "[0, 0, 6, 6]"
    texts = [f"<answer>{right}</answer>", f"{right}", *[f"<answer>{far}</answer>"] * 3, "", "<answer></answer>", "<answer>none"]
    likelihood = [0.5, 0.6, 0.9, 0.3, 0.4, 0.2, 0.1, 0.5]
    return [Rollout(sample=sample, text=text, group=group, num_tokens=9, likelihood=p) for text, p in zip(texts, likelihood, strict=True)]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_right_answers_are_reinforced_and_wrong_ones_are_not(path, tokenizer):
    tree = yaml.safe_load(path.read_text())
    samples = part("sources", tree["data"] | {"count": 3}).samples()
    rollouts = [rollout for group, sample in enumerate(samples) for rollout in attempts(sample, group)]
    rollouts += [replace(rollout, group=3) for rollout in rollouts[2:5]]
    table = Composite.from_tree(tree["rewards"])(rollouts)
    assert not table.broken.any(), [table.errors(row) for row in range(len(rollouts))]
    group_B = torch.tensor([rollout.group for rollout in rollouts])
    advantage = part("advantages", tree["advantage"])
    tokens = [[*tokenizer.encode(rollout.text, add_special_tokens=False), tokenizer.eos_token_id] for rollout in rollouts]
    shape = (len(rollouts), max(map(len, tokens)))
    nothing = torch.tensor([[0.0] * len(own) + [torch.nan] * (shape[1] - len(own)) for own in tokens])
    table = replace(table, by_token=dict.fromkeys(advantage.reads, nothing))
    got = advantage(table, group_B)
    if advantage.per_token:
        offsets = [offsets_of(row, lambda ids: tokenizer.decode(ids, skip_special_tokens=True)) for row in tokens]
        by_token = advantage.tokens(table, group_B, offsets)
        assert by_token.shape == shape
        assert all(by_token[row, len(own) :].abs().sum() == 0 for row, own in enumerate(tokens))
        got = by_token.sum(1)
    assert bool(torch.isfinite(got).all())
    for first in (0, 8, 16):
        assert got[first] > max(0, got[first + 1 : first + 8].max())
        assert got[first : first + 8].min() < 0 or "best_only" in path.stem
    if "lens" in path.stem:
        assert got[24] < 0 < got[25], "the surest of three misses is pushed away"
    else:
        assert got[24:].abs().sum() == 0, "three equal misses teach nothing"
