from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from vlreward.config import Bound, Count, Fraction, fingerprint, load, parse, resolved
from vlreward.errors import ConfigError
from vlreward.rewards.composite import Composite
from vlreward.run import Run


@dataclass(frozen=True, kw_only=True)
class Sampler:
    steps: Count = 8
    noise: Fraction = 0.7
    grid: Literal["native", "linspace"] = "native"


@dataclass(frozen=True, kw_only=True)
class Command:
    run: Run
    rewards: Composite
    sampler: Sampler = field(default_factory=Sampler)
    path: Path | None = None
    sizes: tuple[int, ...] = ()
    lr: float = 1.0


GOOD = """\
run: {name: test}
rewards:
  - {kind: box_iou, weight: 2, floor: 0.5}
  - answer_format
sampler:
  steps: 4
lr: 1e-4
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        (tmp_path / "c.yaml").write_text(text)
        return tmp_path / "c.yaml"

    return write


def refused(path, *overrides) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides, Command)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_file_becomes_the_dataclass_with_parts_built(write):
    config, tree = load(write(GOOD), [], Command)
    assert config.sampler == Sampler(steps=4)
    assert config.lr == 1e-4
    assert config.rewards.names == ("box_iou", "answer_format")
    assert config.rewards.terms[0].weight == 2.0
    assert vars(config.rewards.terms[0].reward)["floor"] == 0.5
    assert tree["sampler"] == {"steps": 4}


def test_overrides_reach_nested_keys_and_list_entries(write):
    config, _ = load(write(GOOD), ["sampler.steps=6", "rewards.0.weight=3", "sampler.grid=linspace", "sizes=[1, 2]"], Command)
    assert (config.sampler.steps, config.sampler.grid, config.rewards.terms[0].weight, config.sizes) == (6, "linspace", 3.0, (1, 2))


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("steps: 4", "stesp: 4", ("c.yaml:6", "sampler.stesp", "Did you mean 'steps'?")),
        ("steps: 4", "steps: four", ("c.yaml:6", "sampler.steps", "'four'", "a whole number")),
        ("steps: 4", "steps: -4", ("c.yaml:6", "sampler.steps", "-4", "at least 1")),
        ("steps: 4", "noise: 1.5", ("c.yaml:6", "sampler.noise", "1.5", "at most 1")),
        ("steps: 4", "grid: natve", ("c.yaml:6", "sampler.grid", "Did you mean 'native'?")),
        ("steps: 4", "steps: true", ("c.yaml:6", "sampler.steps", "True", "a whole number")),
        ("kind: box_iou", "kind: box_io", ("c.yaml:3", "rewards.0.kind", "Did you mean 'box_iou'?")),
        ("floor: 0.5", "flor: 0.5", ("c.yaml:3", "rewards.0.flor", "Did you mean 'floor'?")),
        ("weight: 2", "weight: much", ("c.yaml:3", "rewards.0.weight", "'much'", "a number")),
        ("answer_format", "{kind: box_iou}", ("c.yaml:4", "rewards.1", "'box_iou'", "'name'")),
        ("lr: 1e-4", "lr: 1e-4\nlr: 2", ("lr", "twice", "7 and 8")),
        ("{name: test}", "{name: a/b}", ("c.yaml:1", "run.name", "'a/b'")),
        ("{name: test}", "{seed: 1}", ("c.yaml:1", "run", "'name' is missing")),
        ("lr: 1e-4", "lr: [", ("c.yaml", "not valid YAML")),
    ],
)
def test_a_mistake_is_refused_in_one_line_with_file_key_value_and_remedy(write, old, new, parts):
    text = refused(write(GOOD.replace(old, new)))
    for part in parts:
        assert part in text


def test_a_missing_file_is_refused():
    assert "there is no configuration file 'nowhere.yaml'" in refused("nowhere.yaml")


def test_a_mistake_in_an_override_blames_the_command_line(write):
    path = write(GOOD)
    assert refused(path, "sampler.steps=0").startswith("command line: sampler.steps: is 0")
    assert "not of the form" in refused(path, "sampler.steps")
    assert "no index of a list of 2" in refused(path, "rewards.7.weight=1")


def test_a_resolved_config_reads_back_as_the_same(write, tmp_path):
    import yaml

    config, _ = load(write(GOOD), [], Command)
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(resolved(config)))
    read, _ = load(again, [], Command)
    assert fingerprint(read) == fingerprint(config)


def test_the_fingerprint_changes_with_a_value_but_not_with_an_ignored_key(write):
    one, _ = load(write(GOOD), [], Command)
    other, _ = load(write(GOOD), ["sampler.steps=5"], Command)
    renamed, _ = load(write(GOOD), ["run.name=other"], Command)
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) != fingerprint(renamed)
    assert fingerprint(one, ignore=["run.name"]) == fingerprint(renamed, ignore=["run.name"])


def test_a_bound_can_exclude_its_lower_end():
    assert Bound(0, above=True).problem(0) == "more than 0"
    assert Bound(0).problem(0) is None
    with pytest.raises(ConfigError, match="expected one of"):
        parse(Literal["a", "b"], "c", "key")


def test_a_reward_from_the_users_own_file_is_found_beside_the_configuration(write, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom vlreward.rewards.base import Reward\n"
        "@dataclass(kw_only=True)\nclass Length(Reward):\n    top: float = 10.0\n    needs = ('text',)\n"
        "    def one(self, rollout):\n        return min(1.0, len(rollout.text) / self.top)\n"
    )
    config, _ = load(write(GOOD), ["rewards=[{kind: 'mine.py:Length', top: 4}]"], Command)
    assert config.rewards.names == ("Length",)
    assert vars(config.rewards.terms[0].reward)["top"] == 4.0
    assert "has no reward class 'Width'; it has Length" in refused(write(GOOD), "rewards=[{kind: 'mine.py:Width'}]")
    assert "there is no file 'other.py'" in refused(write(GOOD), "rewards=[{kind: 'other.py:Width'}]")


def test_a_misspelt_weight_or_name_of_a_term_is_guessed(write):
    assert "rewards.0.wieght: unknown key. Did you mean 'weight'?" in refused(write(GOOD.replace("weight: 2", "wieght: 2")))


def test_a_reward_file_without_its_class_is_told_how_to_write_it(write):
    assert "write 'my_reward.py:TheClass'" in refused(write(GOOD), "rewards=[my_reward.py]")


@pytest.mark.parametrize("text", ["raise SystemExit(3)", "import nowhere_to_be_found", "def ("])
def test_a_users_file_that_does_not_import_is_told_in_a_line(write, tmp_path, text):
    (tmp_path / "mine.py").write_text(text)
    assert "while it was imported" in refused(write(GOOD), "rewards=['mine.py:Mine']")
    assert "':Mine': cannot import ''" in refused(write(GOOD), "rewards=[':Mine']")


def test_fields_of_a_class_that_is_no_dataclass_are_not_keys_and_why_is_told(write, tmp_path):
    text = "from vlreward.rewards.base import Reward\nclass Mine(Reward):\n    scale: float = 1.0\n    def one(self, rollout): return 1.0\n"
    (tmp_path / "plain.py").write_text(text)
    assert "Mine lacks @dataclass(kw_only=True)" in refused(write(GOOD), "rewards=[{kind: 'plain.py:Mine', scale: 2}]")


def test_a_file_that_is_no_text_and_a_list_as_a_key_are_refused(write):
    assert "c.yaml:1: not valid YAML: a list or a mapping is no key" in refused(write("? [a, b]\n: 1\n"))
    path = write(GOOD)
    path.write_bytes(b"\xff\xfe")
    assert "c.yaml: is not UTF-8 text" in refused(path)
