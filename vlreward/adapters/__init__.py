"""Any reward where users already train.

Each adapter takes a reward, a composite, a registered name, a configuration's list, or a YAML file with `rewards:`, and judges a batch
in one call. TRL and ms-swift skip what is None: that is what a rollout gets that nothing applies to, or on which a judge broke. The others
know numbers only: there it gets `missing`, and `broken` says so beside the score.
"""

from vlreward.adapters.easyr1 import easyr1_reward
from vlreward.adapters.flow_factory import flow_factory_reward
from vlreward.adapters.swift import swift_orm
from vlreward.adapters.trl import trl_reward
from vlreward.adapters.verl import verl_reward

__all__ = ["easyr1_reward", "flow_factory_reward", "swift_orm", "trl_reward", "verl_reward"]
