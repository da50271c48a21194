"""`vlreward eval`: the held-out evaluation of a training configuration, without training."""

from __future__ import annotations

from pathlib import Path

import yaml

from vlreward.errors import ConfigError


def main(path: str, overrides: list[str], resume: bool, fresh: bool) -> int:
    """Evaluate a train-vlm configuration (it has `policy`) or an align one (it has `generator`)."""
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"there is no configuration file {path!r}; the shipped ones are in configs/")
    try:
        tree = yaml.safe_load(file.read_text())
    except yaml.YAMLError:
        tree = None  # the loader says what is wrong with it
    if isinstance(tree, dict) and "generator" in tree:
        from vlreward.flow.train import evaluate
    elif not isinstance(tree, dict) or "policy" in tree:
        from vlreward.vlm.train import evaluate
    else:
        raise ConfigError("has neither 'policy' (train-vlm) nor 'generator' (align); there is nothing to evaluate", where=path)
    return evaluate(path, overrides, resume, fresh)
