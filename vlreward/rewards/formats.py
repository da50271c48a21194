"""Is a text of the form that was asked for?"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vlreward.config import Positive
from vlreward.errors import ConfigError, DataError, RewardError
from vlreward.registry import register
from vlreward.rewards.answers import Answered
from vlreward.rewards.base import Reward
from vlreward.types import Rollout

FENCE = re.compile(r"\s*```(?:json)?[^\S\n]*\n(.*?)\n?\s*```\s*", re.DOTALL)


@register("text_pattern")
@dataclass(kw_only=True)
class TextPattern(Reward):
    """1 if the whole text matches the regular expression `pattern`, else 0.

    Matched with the `regex` package, which knows Python's syntax and more; `.` also matches line ends. A text that takes longer than
    `seconds` to match does not match.

    Source: the format rewards of DeepSeek-R1 (arXiv 2501.12948) and TRL, with the pattern to be given.

    Known cheats: the right form around nonsense (1 by design: keep its weight small or put it in a gate); repeating a part that a
    loose pattern takes once, such as two answers for `.*<answer>.*</answer>` (write `(?!.*<answer>)` or use `answer_format`); a text
    made to take for ever (0).

    Example: {keys: {pattern: "Yes|No"}, text: "Yes, it is"} -> 0
    """

    pattern: str
    seconds: Positive = 1.0
    needs = ("text",)

    def __post_init__(self):
        import regex

        try:
            self._pattern = regex.compile(self.pattern, regex.DOTALL)
        except regex.error as error:
            raise ConfigError(f"is no regular expression: {error}", "pattern") from error

    def one(self, rollout: Rollout) -> float | tuple[float, str]:
        try:
            return float(self._pattern.fullmatch(rollout.text or "", timeout=self.seconds) is not None)
        except TimeoutError:
            return 0.0, f"took more than {self.seconds:g} s to match"


@register("json_schema")
@dataclass(kw_only=True)
class JsonSchema(Answered):
    """1 if the answer is JSON that a JSON schema allows, else 0.

    The schema is `schema`, or the sample's `target.schema` where it has one. A ```json fence around the whole answer is taken off; any
    other text beside the JSON, a doubled key, NaN and Infinity are errors. References to other documents are not fetched.

    Source: JSON Schema (draft 2020-12 unless the schema names another) by the package jsonschema.

    Known cheats: the emptiest value that the schema allows, such as {} or "" (close it: `required`, `minLength`, `minItems`,
    `additionalProperties: false`); right form with wrong content (1 by design: put it in a gate).

    Example: {keys: {schema: {type: object, required: [box]}}, text: "<answer>{\\"box\\": [1, 2]}</answer>"} -> 1
    """

    schema: Mapping[str, Any] = field(default_factory=dict)
    needs = ("text",)

    def load(self, device: str) -> None:
        self._validator = _validator(self.schema, ConfigError)

    def one(self, rollout: Rollout) -> tuple[float, str]:
        schema = rollout.sample.target.get("schema")
        validator = self._validator if schema is None else _validator(schema, DataError)
        found = self.answer(rollout)
        if found is None:
            return 0.0, "no <answer>...</answer>"
        fenced = FENCE.fullmatch(found)
        try:
            value = json.loads(fenced[1] if fenced else found, object_pairs_hook=_once, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            return 0.0, f"not JSON: {str(error)[:100]}"
        from referencing.exceptions import Unresolvable

        try:
            wrong = next(validator.iter_errors(value), None)
        except RecursionError:
            return 0.0, "nested too deeply"
        except Unresolvable as error:
            raise RewardError(f"the schema refers to {error.ref!r}, and nothing is fetched") from error
        return (1.0, "") if wrong is None else (0.0, f"{wrong.json_path}: {wrong.message[:100]}")


def _validator(schema: Any, fault: type[ConfigError] | type[DataError]) -> Any:
    try:
        import jsonschema
        from jsonschema.validators import validator_for
        from referencing.jsonschema import EMPTY_REGISTRY
    except ImportError as error:
        raise ConfigError("reward 'json_schema' needs the extra 'text': pip install 'vlreward[text]'") from error
    kind = validator_for(schema, default=jsonschema.Draft202012Validator) if isinstance(schema, Mapping) else None
    try:
        if kind is None:
            raise jsonschema.SchemaError(f"it is a {type(schema).__name__}, expected keys and values")
        kind.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        raise fault(f"the JSON schema is wrong at {error.json_path}: {error.message[:200]}") from error
    return kind(schema, registry=EMPTY_REGISTRY)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
