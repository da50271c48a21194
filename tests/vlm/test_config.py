"""The train-vlm configuration refuses what cannot work, in one line."""

from __future__ import annotations

import inspect
import re

import pytest
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer

from vlreward.commands import train_vlm
from vlreward.errors import ConfigError
from vlreward.vlm.config import PAIR_VALUES, VALUES
from vlreward.vlm.settings import grpo_config
from vlreward.vlm.train import train


def test_unknown_trl_option_is_refused_with_the_near_one(small):
    with pytest.raises(ConfigError, match="Did you mean 'beta'") as caught:
        small(trl={"betta": 0.1})
    assert caught.value.key == "trl.betta"


def test_trl_option_that_has_a_key_here_is_refused_with_that_key(small):
    with pytest.raises(ConfigError, match=r"optim\.lr") as caught:
        small(trl={"learning_rate": 0.1})
    assert caught.value.key == "trl.learning_rate"


def test_a_loss_that_trl_would_refuse_in_the_first_update_is_refused_before(small):
    with pytest.raises(ConfigError, match=r"is 'dap', expected one of .*Did you mean 'dapo'\?") as caught:
        small(trl={"loss_type": "dap"})
    assert caught.value.key == "trl.loss_type"
    with pytest.raises(ConfigError, match="expected one of 'token', 'sequence'"):
        small(trl={"importance_sampling_level": "word"})


@pytest.mark.parametrize(("trainer", "values"), [(GRPOTrainer, VALUES), (DPOTrainer, PAIR_VALUES)])
def test_the_values_that_are_taken_are_those_that_trl_knows(trainer, values):
    """Each stands in a comparison of TRL's loss, and each comparison there is with one of them."""
    source = inspect.getsource(trainer._compute_loss)
    for option, known in values.items():
        compared = re.findall(rf"\b{option} (?:==|in) (\[.*?\]|\".*?\")", source)
        assert {value for found in compared for value in re.findall(r'"(\w+)"', found)} == set(known)


def test_value_that_trl_refuses_is_the_users_fault(small):
    with pytest.raises(ConfigError, match="TRL refuses"):
        train(small(trl={"optim": "nonsense"}))


def test_micro_batch_must_divide_the_steps_rollouts(small):
    with pytest.raises(ConfigError, match="divisor of size \\* prompts = 6") as caught:
        small(group={"size": 3, "prompts": 2, "micro_batch": 4})
    assert caught.value.key == "group.micro_batch"


def test_group_of_one_is_refused(small):
    with pytest.raises(ConfigError, match="at least 2"):
        small(group={"size": 1, "prompts": 2})


def test_missing_model_folder_is_named_before_a_run_folder_is_made(small, tmp_path):
    with pytest.raises(ConfigError, match="is 'assets/none', neither a folder") as caught:
        train(small(policy={"model": "assets/none"}))
    assert caught.value.key == "policy.model"
    assert not list(tmp_path.iterdir())


def test_fewer_samples_than_a_step_takes_are_refused(small):
    with pytest.raises(ConfigError, match="has 1 samples, but a step takes"):
        train(small(data={"kind": "tiny", "task": "grounding", "count": 1}))


def test_reward_without_its_target_in_the_data_is_refused(small):
    with pytest.raises(ConfigError, match=r"'box_iou' needs 'target.boxes', which no sample"):
        train(small(data={"kind": "tiny", "task": "color", "count": 8}))


def test_processes_that_cannot_share_a_step_evenly_are_refused(small, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="each of 2 processes takes whole groups") as caught:
        grpo_config(small(group={"size": 2, "prompts": 3}), tmp_path)
    assert caught.value.key == "group.prompts"
    with pytest.raises(ConfigError, match="divisor of the 4 rollouts that each of 2"):
        grpo_config(small(group={"size": 2, "prompts": 4, "micro_batch": 8}), tmp_path)


def test_cuda_without_a_gpu_and_bf16_without_cuda_are_refused(small, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="sees no GPU"):
        train(small(device="cuda"))
    with pytest.raises(ConfigError, match="needs CUDA") as caught:
        train(small(policy={"model": "assets/tiny-vlm", "bf16": True}))
    assert caught.value.key == "policy.bf16"


def test_error_of_the_command_names_the_file():
    with pytest.raises(ConfigError, match=r"tiny_grounding.yaml"):
        train_vlm("configs/vlm/tiny_grounding.yaml", ["policy.model=nowhere", "run.folder=/nonexistent/x"], False, False)
