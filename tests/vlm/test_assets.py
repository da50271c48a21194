"""The shipped tiny models do what their READMEs say, read by the ordinary loading code."""

from __future__ import annotations

import ast
import json
import random
from pathlib import Path

import open_clip
import pytest
import torch

from vlreward.cli import main
from vlreward.config import load
from vlreward.rewards.composite import Composite
from vlreward.rewards.drawn import read_source
from vlreward.tiny.scene import COLORS, SHAPES, scene
from vlreward.tiny.tasks import HOLDOUT, SIDE, make
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.evaluate import answer
from vlreward.vlm.policy import read

ASSETS = Path(__file__).parent.parent.parent / "assets"
READS = {
    "tally": "count_match", "plates": "character_accuracy", "heights": "relaxed_accuracy", "spans": "temporal_iou",
}  # fmt: skip
"""Tasks of the tiny reader whose reward needs no sandbox."""
REWARDS = Composite.from_tree([{"kind": "box_iou"}, {"kind": "answer_format"}])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_policy_grounds_well_enough_to_learn_and_badly_enough_to_win(temperature):
    samples = [make("grounding", HOLDOUT + seed) for seed in range(192)]
    rollouts = answer(*read(str(ASSETS / "tiny-vlm")), samples, temperature=temperature, max_new_tokens=24, batch=96, seed=0)
    iou, well_formed = REWARDS(rollouts).scores.mean(0)
    assert 0.35 <= iou <= 0.6
    assert well_formed > 0.95


@pytest.mark.parametrize("task", list(READS))
def test_reader_is_above_chance_and_below_what_it_could_be(task):
    samples = [make(task, HOLDOUT + seed) for seed in range(128)]
    rewards = Composite.from_tree([{"kind": READS[task]}, {"kind": "answer_format"}])
    rollouts = answer(*read(str(ASSETS / "tiny-vlm-reader")), samples, temperature=1.0, max_new_tokens=12, batch=64, seed=0)
    score, well_formed = rewards(rollouts).scores.mean(0)
    assert 0.2 <= score <= 0.9
    assert well_formed > 0.95


def test_reader_writes_chart_code_that_python_reads():
    samples = [make("scripts", HOLDOUT + seed) for seed in range(64)]
    rollouts = answer(*read(str(ASSETS / "tiny-vlm-reader")), samples, temperature=1.0, max_new_tokens=32, batch=64, seed=0)
    assert sum(readable(read_source(rollout.text or "")) for rollout in rollouts) > 0.9 * len(rollouts)


@pytest.mark.parametrize(("task", "reward"), [("reports", "hallucination"), ("ordering", "exact_match")])
def test_teller_tells_of_places_in_form_and_with_the_habits_of_its_teachers(task, reward):
    samples = [make(task, HOLDOUT + seed) for seed in range(64)]
    words = {"objects": list(SHAPES), "attributes": {"color": list(COLORS)}} if reward == "hallucination" else {}
    form = {"kind": "text_pattern", "pattern": r"( \w+ \w+ \[\d+, \d+, \d+, \d+\]\.)+.*"}
    rewards = Composite.from_tree([{"kind": reward} | words, form, {"kind": "named_location", "tag": ""}])
    rollouts = answer(*read(str(ASSETS / "tiny-vlm-teller")), samples, temperature=1.0, max_new_tokens=50, batch=64, seed=0)
    score, well_formed, placed = rewards(rollouts).scores.mean(0)
    assert 0.1 <= score <= 0.8
    assert well_formed > 0.85
    assert placed > 0.25


@pytest.mark.parametrize(("recipe", "calls"), [("unidoc_rl", 3), ("zoom_video", 1)])
def test_seeker_calls_tools_that_work_and_answers_better_than_nothing_and_worse_than_it_could(recipe, calls):
    config, _ = load(ASSETS.parent / "configs" / "vlm" / f"tiny_{recipe}.yaml", [], TrainVLM)
    assert config.eval is not None
    samples = config.eval.data.samples()[:64]
    rollouts = answer(*read(config.policy.model), samples, temperature=1.0, max_new_tokens=24, batch=64, seed=0, turns=config.turns)
    made = [[action for action in rollout.actions or () if action.name != "answer"] for rollout in rollouts]
    assert sum(len(actions) == calls and all(action.error is None for action in actions) for actions in made) > 0.6 * len(rollouts)
    score, step, *_ = config.rewards(rollouts).scores.mean(0)
    assert 0.1 <= score <= 0.8
    assert 0.2 <= step <= 0.9


def test_agents_read_plan_and_judge_better_together_than_one_of_them_answers_at_once(tmp_path):
    path = str(ASSETS.parent / "configs" / "vlm" / "tiny_mact.yaml")
    assert main(["eval", path, f"run.folder={tmp_path}", "eval.data.count=20", "eval.batch=20", "eval.choose.planning.paths=1"]) == 0
    found = json.loads((tmp_path / "tiny-mact-eval" / "summary.json").read_text())["held_out"]["exact_match"]
    assert found["before"] < 0.8 < 0.9 < found["after"]


def readable(code: str) -> bool:
    try:
        return bool(ast.parse(code).body)
    except SyntaxError:
        return False


def test_policy_answers_in_few_tokens_of_whole_numbers():
    words = read(str(ASSETS / "tiny-vlm"))[1].tokenizer
    assert [words.decode([i]) for i in words("<answer>[7, 12, 96, 40]</answer>")["input_ids"]] == [
        "<answer>[", "7", ", ", "12", ", ", "96", ", ", "40", "]</answer>",
    ]  # fmt: skip


@torch.no_grad()
def test_clip_finds_the_caption_among_32():
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{ASSETS / 'tiny-clip'}")
    words = open_clip.get_tokenizer(f"local-dir:{ASSETS / 'tiny-clip'}")
    views = {}
    seed = HOLDOUT
    while len(views) < 32:
        view = scene(random.Random(f"held out/{seed}"))
        views.setdefault(view.caption, view)
        seed += 1
    text = model.encode_text(words(list(views)), normalize=True)
    for side in (32, SIDE):
        image = model.encode_image(torch.stack([preprocess(view.picture(side)) for view in views.values()]), normalize=True)
        assert ((image @ text.T).argmax(1) == torch.arange(32)).float().mean() > 0.8
