"""One reward stack for vision and language. Start at `vlreward.types`, then any file in `vlreward.rewards`."""

__version__ = "0.1.0"
