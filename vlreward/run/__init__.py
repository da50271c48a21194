"""What a run leaves behind, how far it has come, and the processes it has."""

from vlreward.run.folder import KEPT_CHECKPOINTS, Run, RunFolder
from vlreward.run.processes import environment, meet, quiet, rank, seed_everything, world
from vlreward.run.progress import Progress

__all__ = [
    "KEPT_CHECKPOINTS",
    "Progress",
    "Run",
    "RunFolder",
    "environment",
    "meet",
    "quiet",
    "rank",
    "seed_everything",
    "world",
]
