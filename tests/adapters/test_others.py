"""Adapters for trainers that are not installed here; what they pass and expect is recorded as facts, with repository and commit."""

from __future__ import annotations

import inspect
import json
import sys
import threading
import types
from dataclasses import dataclass

import pytest
import torch
from PIL import Image

from vlreward.adapters import easyr1_reward, flow_factory_reward, swift_orm, verl_reward
from vlreward.data.media import Clip
from vlreward.errors import ConfigError, RewardError
from vlreward.rewards.base import Reward
from vlreward.types import RewardOutput

BOTH = [{"kind": "exact_match"}, {"kind": "answer_format", "weight": 0.5}]
RIGHT, WRONG = "<answer>3</answer>", "it is <answer>4</answer>"
GROUP = {"kind": "rank", "of": "exact_match"}


@dataclass(kw_only=True)
class Sees(Reward):
    """The width of what is judged, in pixels; a broken judge for pictures of one pixel."""

    kind = "sees"
    needs = ("visual",)
    bounds = (0.0, 1000.0)

    def one(self, rollout):
        if rollout.visual.size[0] == 1:
            raise RewardError("too small")
        return float(rollout.visual.size[0])


# EasyR1: github.com/hiyouga/EasyR1 at b44b311, verl/workers/reward/function.py
EASYR1 = {"passes": {"response": str, "response_length": int, "ground_truth": str}, "wants": "overall"}


def easyr1_inputs(*rows):
    return [dict(zip(EASYR1["passes"], row, strict=True)) for row in rows]


def test_easyr1_gets_the_total_each_term_and_whether_a_judge_broke():
    score = easyr1_reward(BOTH)
    inputs = easyr1_inputs((RIGHT, 4, "3"), (WRONG, 7, "3"), (RIGHT, 4, json.dumps({"answer": ["three", "3"]})), (RIGHT, 4, ""))
    inspect.signature(score).bind(inputs)
    got = score(inputs)
    assert [row[EASYR1["wants"]] for row in got] == [1.5, 0.0, 1.5, 0.0]
    assert got[0] == {"overall": 1.5, "exact_match": 1.0, "answer_format": 1.0, "broken": 0.0}
    assert got[3]["broken"] == 1.0
    assert all(type(value) is float for row in got for value in row.values())


def test_easyr1s_response_length_is_the_number_of_tokens():
    [row] = easyr1_reward({"kind": "soft_overlong", "max": 100, "buffer": 20})(easyr1_inputs((RIGHT, 90, "")))
    assert row == {"overall": -0.5, "broken": 0.0}


def test_what_does_not_apply_gets_the_stated_number_where_a_trainer_knows_numbers_only():
    [row] = easyr1_reward("box_iou", missing=-1.0)(easyr1_inputs((RIGHT, 4, "3")))
    assert row == {"overall": -1.0, "broken": 0.0}


@pytest.mark.parametrize("adapter", [easyr1_reward, verl_reward])
def test_a_reward_on_groups_is_refused_where_groups_are_not_told(adapter):
    with pytest.raises(ConfigError, match="'rank' judges whole groups"):
        adapter(GROUP)
    with pytest.raises(ConfigError, match="'rank' judges whole groups"):
        adapter({"kind": "clip", "of": GROUP, "high": 0.5})


# verl: github.com/volcengine/verl at b178a3c, verl/experimental/reward_loop/reward_manager/naive.py (one response a call) and
# verl/workers/reward_manager/batch.py; both pass by name, and take a number or a mapping with `score`.
VERL_ONE = ("data_source", "solution_str", "ground_truth", "extra_info")
VERL_BATCH = ("data_sources", "solution_strs", "ground_truths", "extra_infos")


def test_verl_gets_a_mapping_with_score_for_one_response():
    score = verl_reward(BOTH)
    call = dict(zip(VERL_ONE, ("geo3k", RIGHT, "3", {"num_turns": 1, "rollout_reward_scores": {}}), strict=True))
    inspect.signature(score).bind(**call, reward_router_address=None, reward_model_tokenizer=None)
    assert score(**call) == {"score": 1.5, "exact_match": 1.0, "answer_format": 1.0, "broken": 0.0}
    assert not inspect.iscoroutinefunction(score)


def test_verls_batch_manager_gets_a_list_with_equal_keys():
    score = verl_reward(BOTH)
    call = dict(zip(VERL_BATCH, (["a", "b"], [RIGHT, WRONG], ["3", {"answer": ""}], [{}, None]), strict=True))
    inspect.signature(score).bind(**call)
    got = score(**call)
    assert [row["score"] for row in got] == [1.5, 0.0]
    assert [row["broken"] for row in got] == [0.0, 1.0]
    assert got[0].keys() == got[1].keys()


def test_verls_pictures_come_from_extra_info(tmp_path):
    Image.new("RGB", (9, 4)).save(tmp_path / "a.png")
    score = verl_reward(Sees())
    assert score(solution_str="", extra_info={"images": [str(tmp_path / "a.png")]})["score"] == 9
    assert score(solution_str="", extra_info={"images": [{"bytes": (tmp_path / "a.png").read_bytes(), "path": None}]})["score"] == 9


def test_verls_threads_wait_for_each_other():
    inside, most = [0], [0]

    class Watches(Sees):
        def batch(self, rollouts):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            threading.Event().wait(0.01)
            inside[0] -= 1
            return RewardOutput(scores=torch.zeros(len(rollouts), dtype=torch.float64))

    score = verl_reward(Watches())
    image = {"images": [Image.new("RGB", (2, 2))]}
    threads = [threading.Thread(target=score, kwargs={"solution_str": "", "extra_info": image}) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert most == [1]


# ms-swift: github.com/modelscope/ms-swift at 3602360. swift/rlhf_trainers/grpo_trainer.py makes `orms[name](args=args)` and takes the
# class's name for the log; swift/rl_core/grpo_algorithm.py calls it with the completions and, by name, `trainer_state` and the rows
# of swift/rl_core/data.py:to_reward_row as columns; None becomes NaN.
SWIFT_ROW = {
    "messages": [{"role": "user", "content": "<image>how many?"}, {"role": "assistant", "content": RIGHT}],
    "prompt_id": "p1",
    "request_id": "chatcmpl-1",
    "finish_reason": "stop",
    "is_truncated": False,
    "rollout_infos": {},
    "response_token_ids": [1, 2, 3],
    "images": [Image.new("RGB", (9, 4))],
    "solution": "3",
}


def swift_columns(*changes):
    rows = [SWIFT_ROW | change for change in changes]
    return {"trainer_state": None} | {name: [row[name] for row in rows] for name in SWIFT_ROW}


def test_ms_swift_makes_an_orm_and_calls_it_with_columns():
    orm = swift_orm("exact_match", rename={"solution": "answer"})
    assert orm.__name__ == "exact_match"
    reward = orm(args=types.SimpleNamespace())
    columns = swift_columns({}, {"request_id": "chatcmpl-2"}, {"solution": None}, {"solution": ""})
    inspect.signature(reward).bind([RIGHT] * 4, **columns)
    assert reward([RIGHT, WRONG, RIGHT, RIGHT], **columns) == [1.0, 0.0, None, None]
    assert not inspect.iscoroutinefunction(reward.__call__)


def test_ms_swifts_pictures_and_tokens_arrive():
    assert swift_orm(Sees())()([RIGHT], **swift_columns({})) == [9.0]
    assert swift_orm("text_length")()([RIGHT], **swift_columns({})) == [3.0]


def test_ms_swifts_prompt_ids_are_the_groups_wherever_the_rows_stand():
    reward = swift_orm(GROUP, rename={"solution": "answer"})()
    columns = swift_columns({}, {"prompt_id": "p2"}, {}, {"prompt_id": "p2"})
    assert reward([RIGHT, WRONG, WRONG, RIGHT], **columns) == [1.0, 0.0, 0.0, 1.0]


# Flow-Factory: github.com/X-GenGroup/Flow-Factory at a0b2bc5, src/flow_factory/rewards/abc.py. A model is made by
# `cls(config=..., accelerator=...)`; reward_processor.py passes those fields of a sample that `__call__` names and that are not None,
# pictures as PIL, and reads `.rewards`.
FLOW_FACTORY_CALL = ["prompt", "image", "video", "audio", "condition_images", "condition_videos"]


@pytest.fixture
def flow_factory(monkeypatch):
    class Base:
        required_fields: tuple[str, ...] = ("image", "prompt")
        use_tensor_inputs = False

        def __init__(self, config, accelerator):
            self.accelerator, self.config, self.device = accelerator, config, torch.device("cpu")

    @dataclass
    class RewardModelOutput:
        rewards: object
        extra_info: dict | None = None

    names = {"PointwiseRewardModel": type("PointwiseRewardModel", (Base,), {}), "RewardModelOutput": RewardModelOutput}
    abc = types.SimpleNamespace(**names, GroupwiseRewardModel=type("GroupwiseRewardModel", (Base,), {}))
    monkeypatch.setitem(sys.modules, "flow_factory", types.ModuleType("flow_factory"))
    monkeypatch.setitem(sys.modules, "flow_factory.rewards", types.SimpleNamespace(abc=abc))
    return abc


def test_flow_factory_without_its_package_is_refused():
    with pytest.raises(ConfigError, match="not installed"):
        flow_factory_reward("clip_score")


def test_flow_factory_gets_a_pointwise_model_with_its_own_parameters(flow_factory):
    cls = flow_factory_reward(Sees(), missing=-1.0)
    assert issubclass(cls, flow_factory.PointwiseRewardModel)
    assert list(inspect.signature(cls.__call__).parameters)[1:] == FLOW_FACTORY_CALL
    model = cls(config=None, accelerator=None)
    output = model(prompt=["a", "b"], image=[Image.new("RGB", (9, 4)), Image.new("RGB", (1, 1))])
    assert isinstance(output, flow_factory.RewardModelOutput)
    assert output.rewards == [9.0, -1.0]
    assert output.extra_info == {"broken": [0.0, 1.0]}
    clips = model(prompt=["a"], video=[[Image.new("RGB", (7, 4))] * 3])
    assert clips.rewards == [7.0]


def test_flow_factory_tells_prompts_only_so_targets_come_by_prompt(flow_factory):
    seen = []

    class Wants(Sees):
        needs = ("visual", "target.text")

        def one(self, rollout):
            seen.append(rollout)
            return 1.0

    model = flow_factory_reward(Wants(), targets={"a": {"text": "OPEN"}})(None, None)
    output = model(prompt=["a", "b"], video=[[Image.new("RGB", (7, 4))] * 2] * 2)
    assert output.rewards == [1.0, 0.0]
    assert seen[0].sample.target == {"text": "OPEN"}
    assert isinstance(seen[0].made, Clip)


def test_flow_factory_gets_a_groupwise_model_where_a_reward_judges_groups(flow_factory):
    cls = flow_factory_reward([{"kind": "rank", "of": "clip_score", "name": "place"}])
    assert issubclass(cls, flow_factory.GroupwiseRewardModel)
    assert cls.__name__ == "place"
