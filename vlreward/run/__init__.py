"""What a run leaves behind, how far it has come, and the processes it has."""

from vlreward.run.folder import KEPT_CHECKPOINTS, Run, RunFolder
from vlreward.run.processes import Device, device_of, environment, meet, quiet, rank, seed_everything, world
from vlreward.run.progress import Progress

__all__ = [
    "KEPT_CHECKPOINTS",
    "Device",
    "Progress",
    "Run",
    "RunFolder",
    "device_of",
    "environment",
    "meet",
    "quiet",
    "rank",
    "seed_everything",
    "world",
]
