"""One run folder of each command, made once for all report tests; a test that changes one copies it first."""

from pathlib import Path

import pytest

from .folders import flow_run, score_run, vlm_run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    made = {"vlm": vlm_run(root, steps=12, held=8), "flow": flow_run(root, steps=6, held=8), "score": score_run(root, pairs=6)}
    return {name: folder.path for name, folder in made.items()}
