import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlreward.config import part
from vlreward.errors import ConfigError
from vlreward.rewards.formats import JsonSchema, TextPattern

BOX = {
    "type": "object",
    "required": ["label", "box"],
    "additionalProperties": False,
    "properties": {
        "label": {"type": "string", "minLength": 1},
        "box": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
    },
}
RIGHT = '{"label": "cat", "box": [1, 2, 3, 4.5]}'


@pytest.mark.parametrize(
    ("pattern", "text", "wanted"),
    [
        ("Yes|No", "Yes", 1),
        ("Yes|No", "Yes, it is", 0),
        ("Yes|No", "", 0),
        (r"<think>.+</think>\s*\d+", "<think>one\ntwo</think>\n12", 1),
        (r"(?!.*<a>.*<a>).*<a>.*", "<a>1 <a>2", 0),
    ],
)
def test_the_whole_text_must_match(rollout, pattern, text, wanted):
    assert TextPattern(pattern=pattern).score([rollout(text)]).scores.item() == wanted


def test_a_text_made_to_take_for_ever_does_not_match(rollout):
    output = TextPattern(pattern="(a|a)*b", seconds=0.05).score([rollout("a" * 40 + "ba"), rollout("aab")])
    assert output.scores.tolist() == [0.0, 1.0]
    assert list(output.notes) == ["took more than 0.05 s to match", ""]
    assert output.errors == [None, None]


def test_a_wrong_pattern_is_refused_with_its_key():
    with pytest.raises(ConfigError, match=r"pattern: is no regular expression"):
        part("rewards", {"kind": "text_pattern", "pattern": "("})


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (RIGHT, 1),
        (f"```json\n{RIGHT}\n```", 1),
        (f"```\n{RIGHT}\n```", 1),
        (f" {RIGHT}\n", 1),
        (f"Here: {RIGHT}", 0),
        (f"{RIGHT} {RIGHT}", 0),
        ("{}", 0),
        ('{"label": "", "box": [1, 2, 3, 4]}', 0),
        ('{"label": "cat", "box": [1, 2, 3]}', 0),
        ('{"label": "cat", "box": [1, 2, 3, NaN]}', 0),
        ('{"label": "cat", "label": "dog", "box": [1, 2, 3, 4]}', 0),
        ('{"label": "cat", "box": [1, 2, 3, 4], "more": 1}', 0),
        ("{'label': 'cat', 'box': [1, 2, 3, 4]}", 0),
        (RIGHT[:-1], 0),
        ("", 0),
        ("[" * 100_000, 0),
        ("9" * 10_000, 0),
    ],
)
def test_the_answer_must_be_json_that_the_schema_allows(rollout, answer, wanted):
    output = JsonSchema(schema=BOX).score([rollout(f"<answer>{answer}</answer>")])
    assert output.errors == [None]
    assert output.scores.item() == wanted


def test_the_note_says_what_is_wrong_and_where(rollout):
    output = JsonSchema(schema=BOX).score([rollout('<answer>{"label": "x", "box": [1, 2, "3", 4]}</answer>'), rollout(RIGHT)])
    assert list(output.notes) == ["$.box[2]: '3' is not of type 'number'", "no <answer>...</answer>"]
    assert JsonSchema(schema=BOX, tags=False).score([rollout(RIGHT)]).scores.item() == 1


def test_a_sample_may_bring_its_own_schema(rollout):
    rows = [
        rollout("<answer>3</answer>", schema=schema) for schema in ({"type": "integer"}, {"type": "string"}, {"type": "nothing"}, "x", [1])
    ]
    output = JsonSchema(schema=BOX).score(rows)
    assert output.scores[:2].tolist() == [1.0, 0.0]
    assert output.broken.tolist() == [False, False, True, True, True]
    assert "the JSON schema is wrong at $.type" in (output.errors[2] or "")


def test_references_within_the_schema_hold_and_others_are_not_fetched(rollout, monkeypatch):
    fetched = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *addresses, **_: fetched.append(addresses))
    local = {"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n"}
    remote = {"$ref": "http://example.com/schema.json"}
    output = JsonSchema().score([rollout("<answer>3</answer>", schema=schema) for schema in (local, remote)])
    assert output.scores[0] == 1.0
    assert output.errors[1] == "the schema refers to 'http://example.com/schema.json', and nothing is fetched"
    assert not fetched


def test_a_wrong_schema_or_a_missing_extra_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match="the JSON schema is wrong"):
        JsonSchema(schema={"type": "nothing"}).load("cpu")
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(ConfigError, match=r"pip install 'vlreward\[text\]'"):
        JsonSchema().load("cpu")


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn \\u`', max_size=60))
def test_any_answer_stays_in_bounds(text):
    from vlreward.types import Rollout, Sample

    for reward in (JsonSchema(schema=BOX), JsonSchema(), TextPattern(pattern=r"\{.*\}")):
        output = reward.score([Rollout(sample=Sample(id="s", prompt="p"), text=f"<answer>{text}</answer>")])
        assert output.errors == [None]
        assert output.scores.item() in (0.0, 1.0)
