"""A configuration that calls itself the twin of a recipe trains by the same method: `tiny_X.yaml` stands for `X.yaml`."""

from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parent.parent / "configs" / "vlm"
TWINS = sorted(path.name.removeprefix("tiny_") for path in FOLDER.glob("tiny_*.yaml") if path.read_text().startswith("# Twin of "))
LOSS = ("loss_type", "importance_sampling_level", "epsilon", "epsilon_high")


def tree(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text())


def kinds(block: Any) -> Any:
    """The kinds in an advantage, from the outside in."""
    return [block["kind"], *kinds(block["of"])] if isinstance(block, dict) and "of" in block else [block["kind"]] if block else []


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_has_the_advantage_and_the_loss_of_its_recipe(name):
    recipe, twin = tree(name), tree(f"tiny_{name}")
    assert kinds(twin.get("advantage")) == kinds(recipe.get("advantage"))
    first, second = recipe.get("trl", {}), twin.get("trl", {})
    assert {key: second.get(key) for key in LOSS} == {key: first.get(key) for key in LOSS}


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_has_as_many_rewards_as_its_recipe(name):
    assert len(tree(f"tiny_{name}")["rewards"]) == len(tree(name)["rewards"])
