"""What learns on the Gaussian does not where rewards are handed to the wrong rollouts."""

import pytest
from gaussian import learned, shuffled

from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.latent_reward import Learning
from vlreward.flow.objectives.b2_diffurl import B2Diffurl
from vlreward.flow.objectives.dense_grpo import DenseGrpo
from vlreward.flow.objectives.euphonium import Euphonium
from vlreward.flow.objectives.flow_grpo import FlowGrpo
from vlreward.flow.objectives.tempflow_grpo import TempflowGrpo
from vlreward.flow.objectives.tp_grpo import TpGrpo

METHODS = [
    FlowGrpo(clip=1e-2, best_worst=8),
    TempflowGrpo(clip=1e-2),
    DenseGrpo(clip=1e-2, calibrate=0.02),
    TpGrpo(clip=1e-2),
    B2Diffurl(first=2, grow=1, stage=5),
    Euphonium(clip=1e-2, guided_from=0.0, guidance=0.3, warmup=3, critic=Learning(width=8, updates=4, pairs=16)),
]


@pytest.mark.parametrize("objective", METHODS, ids=lambda objective: objective.kind)
def test_shuffled_rewards_lead_nowhere(objective):
    """Half the distance and more is left, or the mean has wandered farther off."""
    assert learned(objective, FlowSde(), epochs=20, judge=shuffled) > 0.5
