import json
import math
import re

import pytest
import yaml

from vlreward.cli import main
from vlreward.listing import card, judge, paragraph, table_text
from vlreward.registry import PACKAGES, parts
from vlreward.rewards.composite import Composite

REWARDS = parts("rewards")
CARDS = {name: card(cls) for name, cls in REWARDS.items()}


def listed(capsys, *arguments: str) -> str:
    assert main(["list", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_says_what_it_follows_how_it_is_cheated_and_its_range(name):
    shown = CARDS[name]
    assert shown["first"].endswith("."), "the first line is a sentence, for it is what a list shows"
    assert len(shown["source"]) > 10, "no `Source:` paragraph"
    assert len(shown["cheats"]) > 10, "no `Known cheats:` paragraph"
    assert shown["range"]


@pytest.mark.parametrize("name", REWARDS)
def test_a_range_in_numbers_is_the_one_that_is_checked(name):
    ends = [part.strip("[]() ") for part in CARDS[name]["range"].split(",")]
    if len(ends) == 2 and all(re.fullmatch(r"-?inf|-?[\d.]+", end) for end in ends) and "__post_init__" not in vars(REWARDS[name]):
        assert tuple(map(float, ends)) == REWARDS[name].bounds


@pytest.mark.parametrize("name", [name for name, shown in CARDS.items() if shown["worked"]])
def test_a_worked_example_scores_what_the_docstring_says(name):
    assert judge(CARDS[name]["term"], CARDS[name]["worked"]) == pytest.approx(CARDS[name]["worked"]["score"], abs=5e-4)


@pytest.mark.parametrize("name", REWARDS)
def test_the_example_term_of_a_reward_reads_as_configuration(name):
    if "..." not in str(CARDS[name]["term"]):
        composite = Composite.from_tree(yaml.safe_load(yaml.safe_dump([CARDS[name]["term"]])))
        assert composite.names == (name,)


def test_the_table_names_family_needs_range_and_source_of_every_reward(capsys):
    lines = listed(capsys, "rewards").splitlines()
    assert lines[0].split() == ["name", "family", "needs", "range", "source"]
    rows = {line.split()[0]: line for line in lines[1:-2]}
    assert list(rows) == list(REWARDS)
    assert re.fullmatch(r"box_iou +boxes +text boxes +\[0, 1\] +VLM-R1, arXiv 2504\.07615.*", rows["box_iou"])
    assert re.search(r" lengths +text length +\(-inf, 1\] ", rows["length_target"])


def test_a_narrow_terminal_cuts_the_source_and_nothing_else(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    line = table_text([CARDS["soft_overlong"]]).splitlines()[1]
    assert line.startswith("soft_overlong  lengths  text   [-1, 0]  DAPO, arXiv 2503.14476")
    assert line.endswith("…")
    assert len(line) <= 100


def test_a_card_shows_description_keys_and_a_worked_example(capsys):
    said = listed(capsys, "rewards", "soft_overlong")
    for piece in (
        "Source: DAPO",
        "Known cheats:",
        "range: [-1, 0]",
        "max: Count required",
        "unit: Literal['tokens', 'words', 'characters'] = 'tokens'",
        "- {kind: soft_overlong, max: 100, buffer: 20, weight: 1.0}",
        "num_tokens: 90} scores -0.5",
    ):
        assert piece in said
    assert "Example:" not in said


def test_a_reward_without_a_worked_example_still_shows_how_to_write_it(capsys):
    assert "- {kind: step_delta, of: exact_match, weight: 1.0}" in listed(capsys, "rewards", "step_delta")


def test_other_families_stay_plain(capsys):
    lines = listed(capsys, "advantages").splitlines()
    assert lines[0] == "advantages:"
    assert [line.split()[0] for line in lines[1:]] == list(parts("advantages"))
    assert "keys:" in listed(capsys, "advantages", "gfpo")


def test_programs_get_the_same_as_json(capsys):
    assert [one["name"] for one in json.loads(listed(capsys, "rewards", "--json"))] == list(REWARDS)
    whole = json.loads(listed(capsys, "--json"))
    assert list(whole) == list(PACKAGES)
    one = json.loads(listed(capsys, "rewards", "length_budget", "--json"))
    assert one["needs"] == ["text", "target.length"]
    assert one["keys"][0] == {"name": "unit", "type": "Literal['tokens', 'words', 'characters']", "default": "'tokens'"}
    assert one["worked"]["score"] == 0.7
    assert "family" in json.loads(listed(capsys, "advantages", "gdpo", "--json"))


def test_a_paragraph_is_found_by_its_title_and_put_on_one_line():
    about = "First.\n\nSource: a\nb.\n\nKnown cheats: c."
    assert paragraph(about, "Source") == "a b."
    assert paragraph(about, "Example") == ""


def test_an_example_without_a_rollout_of_its_own_is_none():
    assert CARDS["step_clip"]["worked"] is None
    assert math.isfinite(judge(CARDS["rank"]["term"], CARDS["rank"]["worked"]))
