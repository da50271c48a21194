"""Training and evaluation on rollouts of several turns, a few steps each."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace

import pytest
import torch

from vlreward.errors import ConfigError
from vlreward.rewards.base import Reward
from vlreward.rewards.composite import Term
from vlreward.rewards.confidence import TextLikelihood
from vlreward.run import RunFolder, quiet
from vlreward.types import Rollout
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.evaluate import answer
from vlreward.vlm.policy import read
from vlreward.vlm.train import train
from vlreward.vlm.trainer import VLGRPOTrainer

ZOOM = {
    "tools": [{"kind": "crop", "side": 48, "multiple": 24}],
    "limit": 2,
    "opens": "<answer>",
    "closes": "</answer>",
    "reply": "{visuals}{question}",
    "announce": False,
}
"""The box that the policy writes first is taken as a call, so that it can be answered with a picture."""


@dataclass(kw_only=True)
class Halves(Reward):
    """Something about the text, so that rollouts differ."""

    kind = "halves"
    needs = ("text", "actions")

    def one(self, rollout: Rollout) -> float:
        return (sum(map(ord, rollout.text or "")) % 17) / 17


@dataclass(kw_only=True)
class Sparse(Halves):
    """Tells the rollouts of the second sample apart, and no others."""

    kind = "sparse"

    def one(self, rollout: Rollout) -> float:
        return super().one(rollout) if rollout.sample.id.endswith("-3") else 0.0


@dataclass(kw_only=True)
class Zero(Reward):
    """0 for everything."""

    kind = "zero"

    def one(self, rollout: Rollout) -> float:
        return 0.0


def trainer(config: TrainVLM, term: Term | None = None) -> VLGRPOTrainer:
    config.rewards.terms = (term or Term(name="halves", weight=1.0, reward=Halves()),)
    folder = RunFolder.open(config.run, "train-vlm", config)
    with quiet("transformers", "datasets"):
        return VLGRPOTrainer(config, folder, *read(config.policy.model), config.data.samples())


def batch(made: VLGRPOTrainer) -> dict:
    torch.manual_seed(0)
    with quiet("transformers", "datasets"):
        return made._generate_and_score_completions([{"row": row, "prompt": []} for row in [0] * 3 + [1] * 3])


def figures(folder: RunFolder) -> list[dict]:
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "tokens/"))} for row in folder.read("metrics.jsonl")]


def test_what_a_tool_shows_is_read_and_masked_out_of_the_loss(small):
    made = trainer(small(turns=ZOOM))
    out = batch(made)
    assert [len(talk.media) for talk in made.talks].count(1) >= 4, "most first turns of this policy are boxes"
    for row, talk in enumerate(made.talks):
        assert out["completion_ids"][row, : len(talk.tokens)].tolist() == talk.tokens
        assert out["tool_mask"][row, : len(talk.tokens)].tolist() == talk.mine
        assert [action.name for action in talk.actions] == (["crop", "answer"] if talk.media else ["answer"])
    assert made.figures["tools/calls"] == sum(bool(talk.media) for talk in made.talks) / 6


def test_padded_and_shared_forwards_agree_on_rollouts_with_pictures_in_the_middle(small):
    made = trainer(small(turns=ZOOM))
    out = batch(made)
    made.rows, made.places = out["row"].tolist(), out["place"].tolist()
    ids = torch.cat([out["prompt_ids"], out["completion_ids"]], 1)
    mask = torch.cat([out["prompt_mask"], out["completion_mask"]], 1)
    width = out["completion_ids"].shape[1]
    with torch.no_grad():
        shared, _, _ = made._get_per_token_logps_and_entropies(made.model, ids, mask, width, batch_size=3)
        object.__setattr__(made.config.policy, "shared_prefix", False)
        padded, _, _ = made._get_per_token_logps_and_entropies(made.model, ids, mask, width, batch_size=2)
    inside = out["completion_mask"].bool()
    assert torch.allclose(shared[inside], padded[inside], atol=1e-5)
    assert float((shared[inside] - padded[inside]).abs().max()) > 0, "these were the same path"


def test_a_run_resumed_between_two_updates_on_the_same_rollouts_goes_on_to_the_same_numbers(small):
    optim = {"lr": 1e-3, "steps": 3, "save_every": 1}
    config = small(turns=ZOOM, trl={"num_iterations": 2}, rewards=["text_length"], optim=optim)
    folder = train(config)
    whole = figures(folder)
    crops = [action for row in folder.read("rollouts.jsonl") for action in row["actions"] if action["name"] == "crop"]
    assert crops and all((folder.path / crop["visuals"][0]).is_file() for crop in crops if not crop["error"])
    assert whole[0]["tools/calls"] > 0 and whole[0]["grad_norm"] > 0
    for step in (2, 3):
        shutil.rmtree(folder.path / "checkpoints" / f"step-{step:06d}")
    assert figures(train(config, resume=True)) == whole


def test_each_action_is_credited_to_its_own_turn_and_replies_to_nobody(small):
    judges = {"of": {"crop": "exact_match", "answer": "exact_match"}}
    advantage = {"kind": "segment_credit", "steps": ["each_action"]}
    config = small(turns=ZOOM, rewards=[{"kind": "each_action", **judges}], advantage=advantage)
    [term] = config.rewards.terms
    term.reward.of = {"crop": Halves(), "answer": Zero()}
    made = trainer(config, term)
    out = batch(made)
    turns = [
        [row[first : last - 1].tolist() for first, last in talk.turns]
        for row, talk in zip(out["advantages"], made.talks, strict=True)
        if talk.media
    ]
    assert all(len(set(turn)) == 1 for rollout in turns for turn in rollout), "each turn has one credit"
    assert len({rollout[0][0] for rollout in turns}) > 1, "crops of other places are worth something else"
    assert all(rollout[1][0] < max(other[0][0] for other in turns) for rollout in turns)
    replies = [value for row, talk in zip(out["advantages"], made.talks, strict=True) for value, mine in zip(row, talk.mine) if not mine]
    assert not any(replies)


def test_rollouts_of_several_rounds_keep_what_was_shown_in_them(small):
    config = small(turns=ZOOM, sampling={"rounds": 3}, advantage={"kind": "segment_credit", "steps": ["sparse"]})
    made = trainer(config, Term(name="sparse", weight=1.0, reward=Sparse()))
    out = batch(made)
    assert made.figures["sampled_groups"] > 2, "the first groups taught nothing, and others were asked"
    for row, (tail, offsets) in enumerate(made.tails):
        assert out["completion_ids"][row, : len(tail.ids)].tolist() == tail.ids.tolist()
        assert len(offsets) == len(tail.ids)


def test_a_likelihood_is_that_of_the_policys_own_tokens(small):
    made = trainer(small(turns=ZOOM, rewards=["text_likelihood"]), Term(name="sure", weight=1.0, reward=TextLikelihood()))
    batch(made)
    with torch.no_grad():
        logps, _ = made.scoring.logps(made.rows, made.written, made.prompt, max(map(len, made.written)), [tail for tail, _ in made.tails])
    for row, (rollout, talk) in enumerate(zip(made.rollouts, made.talks, strict=True)):
        own = logps[row, : len(talk.mine)][torch.tensor(talk.mine, dtype=torch.bool)]
        assert rollout.likelihood == pytest.approx(own.mean().exp().item(), rel=1e-4)


def test_answers_judged_bad_are_revised_and_good_ones_are_not(small):
    reflect = {"reflect": {"ask": "Where is it?", "below": 0.5}, "limit": 2}
    made = trainer(small(turns=reflect), Term(name="halves", weight=1.0, reward=Halves()))
    batch(made)
    first = [talk.rollout(0) for talk in made.talks]
    for talk, rollout in zip(made.talks, first, strict=True):
        worth = Halves().one(replace(rollout, text=talk.words[0]))
        assert [action.name for action in talk.actions] == (["answer", "revision"] if worth < 0.5 else ["answer"])
    assert {len(talk.actions) for talk in made.talks} == {1, 2}


def test_held_out_answers_take_the_same_turns(small):
    config = small(turns=ZOOM)
    policy, processor = read(config.policy.model)
    samples = config.data.samples()[:6]

    def asked(batch: int) -> list[Rollout]:
        return answer(policy, processor, samples, temperature=0.0, max_new_tokens=12, batch=batch, seed=0, turns=config.turns)

    rollouts = asked(4)
    assert [len(rollout.actions or ()) for rollout in rollouts].count(2) >= 4
    assert [rollout.group for rollout in rollouts] == list(range(6))
    assert [rollout.text for rollout in asked(1)] == [rollout.text for rollout in rollouts]


def test_turns_with_continuous_batching_are_refused(small):
    with pytest.raises(ConfigError, match=r"use vLLM"):
        small(turns=ZOOM, trl={"use_transformers_continuous_batching": True})
