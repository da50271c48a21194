"""Comparisons from files: what each layout means, and one clear line for a row that is none."""

import json

import pytest
from PIL import Image

from vlreward.data.comparisons import ChainComparisons, FileComparisons
from vlreward.data.source import BadRow
from vlreward.errors import DataError


@pytest.fixture
def file(tmp_path):
    for name in "ab":
        Image.new("RGB", (8, 8), "red" if name == "a" else "blue").save(tmp_path / f"{name}.png")

    def write(*rows) -> FileComparisons:
        (tmp_path / "pairs.jsonl").write_text("".join(json.dumps({"prompt": "What?", **row}) + "\n" for row in rows))
        return FileComparisons(path=tmp_path / "pairs.jsonl")

    return write


def test_a_chosen_and_a_rejected_text_about_a_picture(file):
    [one] = file({"image": "a.png", "chosen": "red", "rejected": "blue", "subset": "color"}).comparisons()
    assert [rollout.text for rollout in one.rollouts] == ["red", "blue"]
    assert (one.scores, one.subset) == ((1.0, 0.0), "color")
    assert one.rollouts[0].visual.size == (8, 8)
    assert one.rollouts[0].sample is one.rollouts[1].sample


def test_pictures_for_a_prompt_are_what_is_judged(file):
    [one] = file({"pictures": ["b.png", "a.png"], "best": 1}).comparisons()
    assert one.scores == (0.0, 1.0)
    assert [tuple(rollout.visual.tensor[:, 0, 0].tolist()) for rollout in one.rollouts] == [(0, 0, 1), (1, 0, 0)]
    [pair] = file({"chosen_picture": "a.png", "rejected_picture": "b.png"}).comparisons()
    assert pair.scores == (1.0, 0.0)
    assert pair.rollouts[0].text is None


def test_scores_and_ranks_and_what_else_is_known(file):
    row = {"responses": ["ab", "cd", "ef"], "aspects": {"style": [1, 2, 3]}, "steps": [[[0, 2, 1]], [], [[1, 2, 0.5]]], "reference": "x"}
    scored, ranked = file(row | {"scores": [0.5, 0.5, 2]}, row | {"ranks": [1, 2, 3]}).comparisons()
    assert scored.scores == (0.5, 0.5, 2.0)
    assert ranked.scores == (-1.0, -2.0, -3.0)
    assert scored.aspects == {"style": (1.0, 2.0, 3.0)}
    assert scored.facts["steps"][2] == [[1, 2, 0.5]]
    assert dict(scored.rollouts[0].sample.target) == {"reference": "x"}
    assert [rollout.group for rollout in ranked.rollouts] == [1, 1, 1]


BAD = {
    "no attempts": ({}, "has no attempts"),
    "both kinds": ({"chosen": "a", "rejected": "b", "pictures": ["a.png", "b.png"], "best": 0}, "texts and pictures"),
    "no rejected one": ({"chosen": "a"}, "has chosen, but rejected is missing"),
    "misspelt": ({"choosen": "a", "rejected": "b"}, "has rejected, but chosen is missing; the row has rejected, choosen beside its prompt"),
    "one attempt": ({"responses": ["a"], "scores": [1]}, "responses: is ['a'], expected at least two texts"),
    "no scores": ({"responses": ["a", "b"]}, "none of scores, ranks and best"),
    "two rankings": ({"responses": ["a", "b"], "scores": [1, 2], "best": 0}, "scores and best"),
    "too few scores": ({"responses": ["a", "b"], "scores": [1]}, "scores: is [1], expected 2 numbers"),
    "words for scores": ({"responses": ["a", "b"], "scores": ["good", "bad"]}, "expected 2 numbers"),
    "no such index": ({"responses": ["a", "b"], "best": 2}, "best: is 2, expected an index from 0 to 1"),
    "aspect of another length": ({"chosen": "a", "rejected": "b", "aspects": {"style": [1]}}, "aspects.style: is [1]"),
    "step beyond the text": ({"chosen": "a", "rejected": "b", "steps": [[[0, 2, 1]], []]}, "[0, 2, 1] is no [start, end, label]"),
    "no prompt": ({"prompt": "", "chosen": "a", "rejected": "b"}, "prompt is empty"),
}


@pytest.mark.parametrize("mistake", list(BAD))
def test_a_bad_row_is_refused_with_its_line_and_what_is_wrong(file, mistake):
    row, said = BAD[mistake]
    source = file({"chosen": "a", "rejected": "b"}, row)
    bad = [found for found in source if isinstance(found, BadRow)]
    assert [found.id for found in bad] == ["pairs.jsonl:2"]
    assert said in bad[0].error
    with pytest.raises(DataError, match=r"pairs\.jsonl:2: "):
        source.comparisons()


def test_an_empty_file_and_a_missing_picture_are_named(file):
    with pytest.raises(DataError, match=r"pairs\.jsonl: has no comparisons$"):
        file().comparisons()
    rows = [{"image": "a.png", "chosen": "red", "rejected": "blue"}, {"chosen_picture": "a.png", "rejected_picture": "gone.png"}]
    with pytest.raises(DataError, match=r"pairs\.jsonl:2: there is no file '.*gone\.png'$"):
        file(*rows).comparisons()
    assert len(list(file(*rows))) == 2, "a benchmark goes on without it"


def test_a_chain_is_one_source_after_the_other(file):
    source = file({"chosen": "a", "rejected": "b"})
    assert len(ChainComparisons(of=(source, source)).comparisons()) == 2
