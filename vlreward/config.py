"""Strict YAML -> one frozen dataclass per command.

The dataclass fields are the keys. A mapping with `kind` becomes a part: the class registered under that name, its fields the other
keys. Unknown keys, wrong types, values out of bounds and doubled keys are refused with file, line, key, value and remedy.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import re
import types
import typing
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

import yaml

from vlreward.errors import ConfigError
from vlreward.registry import find, spelling

C = TypeVar("C")


@dataclass(frozen=True)
class Bound:
    """Marks a number's allowed range in `Annotated[int, Bound(1)]`; `above` excludes the lower end."""

    low: float = -float("inf")
    high: float = float("inf")
    above: bool = False

    def problem(self, value: float) -> str | None:
        if value < self.low or value > self.high or (self.above and value == self.low):
            low = f"{'more than' if self.above else 'at least'} {self.low:g}" if self.low > -float("inf") else ""
            high = f"at most {self.high:g}" if self.high < float("inf") else ""
            return " and ".join(part for part in (low, high) if part)
        return None


Count = Annotated[int, Bound(1)]
"""1, 2, 3, ..."""
Positive = Annotated[float, Bound(0, above=True)]
NotNegative = Annotated[float, Bound(0)]
Fraction = Annotated[float, Bound(0, 1)]


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-4 is a number (YAML 1.2) and a doubled key is an error."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a list or a mapping is no key", key_node.start_mark)
        if key in seen:
            raise ConfigError(f"the key is given twice, in lines {seen[key]} and {key_node.start_mark.line + 1}", key=str(key))
        seen[key] = key_node.start_mark.line + 1
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load(path: str | Path, overrides: Iterable[str], command: type[C]) -> tuple[C, dict]:
    """Read a file and its dotted overrides (`sampler.steps=4`, `rewards.0.weight=2`) into a command's dataclass.

    Returns it with the plain tree it was read from. Raises ConfigError, whose text is one line.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"there is no configuration file {str(path)!r}; the shipped ones are in configs/")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 text ({error.reason} at byte {error.start})", where=str(path)) from error
    try:
        tree = yaml.load(text, _Loader) or {}
        root = yaml.compose(text, _Loader)
    except ConfigError as error:
        raise ConfigError(error.problem, key=error.key, where=str(path)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"not valid YAML: {getattr(error, 'problem', error)}", where=f"{path}{line}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"holds a {type(tree).__name__}, expected keys and values", where=str(path))
    changed = [_override(tree, override) for override in overrides]
    try:
        config = parse(command, tree, folder=path.parent)
    except ConfigError as error:
        from_override = any(error.key == key or error.key.startswith(key + ".") for key in changed)
        where = "command line" if from_override else f"{path}{_line(root, error.key)}"
        raise ConfigError(error.problem, key=error.key, where=where) from error.__cause__
    return config, tree


def parse(annotation: Any, value: Any, key: str = "", folder: Path | None = None) -> Any:
    """`value` as the type says, or ConfigError naming `key`."""
    convert = functools.partial(parse, folder=folder)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin is Annotated:
        number = convert(args[0], value, key)
        for bound in args[1:]:
            wanted = bound.problem(number) if isinstance(bound, Bound) else None
            if wanted:
                raise ConfigError(f"is {value!r}, expected {wanted}", key)
        return number
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"is {value!r}, expected one of {', '.join(map(repr, args))}.{_meant(value, args)}", key)
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        choices = [arg for arg in args if arg is not type(None)]
        for choice in choices[:-1]:
            try:
                return convert(choice, value, key)
            except ConfigError:
                continue
        return convert(choices[-1], value, key)
    if origin in (tuple, list):
        if not isinstance(value, list):
            raise _expected("a list", value, key)
        if origin is tuple and args[-1] is not Ellipsis:
            if len(value) != len(args):
                raise ConfigError(f"has {len(value)} entries, expected {len(args)}", key)
            return tuple(convert(arg, item, f"{key}.{i}") for i, (arg, item) in enumerate(zip(args, value, strict=True)))
        return origin(convert(args[0], item, f"{key}.{i}") for i, item in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise _expected("keys and values", value, key)
        return {convert(args[0], k, key): convert(args[1], v, _join(key, k)) for k, v in value.items()}
    if hasattr(annotation, "from_tree"):
        return annotation.from_tree(value, key, folder)
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        if "family" in dir(annotation) and "kind" not in vars(annotation):
            return part(annotation.family, value, key, folder, getattr(annotation, "default_kind", None))  # type: ignore[attr-defined]
        return _fields(annotation, value, key, folder)
    return _scalar(annotation, value, key)


def part(
    family: str, value: Any, key: str = "", folder: Path | None = None, default_kind: str | None = None, beside: Sequence[str] = ()
) -> Any:
    """Build a part from `{kind: name, field: value, ...}` (or the bare name). Keys `beside` its own were taken out before."""
    if isinstance(value, str):
        value = {"kind": value}
    if default_kind and isinstance(value, dict):
        value = {"kind": default_kind} | value
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise ConfigError(f"is {value!r}, expected a mapping with the key 'kind'", key)
    try:
        cls = find(family, value["kind"], folder)
    except ConfigError as error:
        raise ConfigError(error.problem, _join(key, "kind")) from error.__cause__
    return _fields(cls, {k: v for k, v in value.items() if k != "kind"}, key, folder, beside)


def _fields(cls: type[C], value: Any, key: str, folder: Path | None, beside: Sequence[str] = ()) -> C:
    if not isinstance(value, dict):
        raise _expected("keys and values", value, key)
    if not dataclasses.is_dataclass(cls):
        raise ConfigError(f"{cls.__name__} is not a dataclass; decorate it with @dataclass(kw_only=True)", key)
    hints = typing.get_type_hints(cls, include_extras=True)
    known = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in value:
        if name not in known:
            if "__dataclass_fields__" not in vars(cls):
                raise ConfigError(
                    f"unknown key; {cls.__name__} lacks @dataclass(kw_only=True), which makes keys of its fields", _join(key, name)
                )
            keys = [*known, *beside]
            raise ConfigError(f"unknown key.{_meant(name, keys)} Known: {', '.join(keys) or 'none'}.", _join(key, name))
    built = {name: parse(hints[name], item, _join(key, name), folder) for name, item in value.items()}
    for name, field in known.items():
        if name not in built and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"the key {name!r} is missing", key)
    try:
        return cls(**built)
    except ConfigError as error:
        raise ConfigError(error.problem, _join(key, error.key) if error.key else key) from error.__cause__


def _scalar(kind: Any, value: Any, key: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Path: "a path"}
    raise _expected(names.get(kind, str(kind)), value, key)


def _expected(what: str, value: Any, key: str) -> ConfigError:
    return ConfigError(f"is {value!r}, expected {what}", key)


def _join(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)


def _meant(value: Any, known: Iterable[Any]) -> str:
    close = difflib.get_close_matches(str(value), [str(k) for k in known], n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _override(tree: dict, override: str) -> str:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r} is not of the form key.subkey=value", where="command line")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{text!r} is not a YAML value", key=key, where="command line") from error
    node: Any = tree
    *parents, last = key.split(".")
    for name in parents:
        node = _step(node, name, key) if isinstance(node, list) else node.setdefault(name, {})
        if not isinstance(node, dict | list):
            raise ConfigError(f"{name!r} holds a value, not keys", key=key, where="command line")
    if isinstance(node, list):
        _step(node, last, key)
        node[int(last)] = value
    else:
        node[last] = value
    return key


def _step(node: list, name: str, key: str) -> Any:
    if not name.isdigit() or int(name) >= len(node):
        raise ConfigError(f"{name!r} is no index of a list of {len(node)}", key=key, where="command line")
    return node[int(name)]


def _line(root: yaml.Node | None, key: str) -> str:
    """':12' for the deepest part of the dotted key that the file has."""
    line, node = None, root
    for name in key.split("."):
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == name), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and name.isdigit() and int(name) < len(node.value):
            node = node.value[int(name)]
            line = node.start_mark.line + 1
        else:
            break
    return f":{line}" if line else ""


def locate(path: str | Path) -> Path:
    """A file or folder as named from here, else from the checkout that the package is installed from; as given where neither is there."""
    checkout = Path(__file__).parent.parent / path
    return checkout if checkout.exists() and not Path(path).exists() else Path(path)


def resolved(config: Any) -> Any:
    """A config as a plain tree with every default written out; parts carry their `kind`. YAML and JSON take it."""
    if hasattr(config, "to_tree"):
        return config.to_tree()
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        tree = {"kind": spelling(type(config))} if getattr(config, "family", None) else {}
        return tree | {f.name: resolved(getattr(config, f.name)) for f in dataclasses.fields(config) if f.init}
    if isinstance(config, Mapping):
        return {str(k): resolved(v) for k, v in config.items()}
    if isinstance(config, tuple | list):
        return [resolved(item) for item in config]
    return str(config) if isinstance(config, Path) else config


def fingerprint(config: Any, ignore: Iterable[str] = ()) -> str:
    """Twelve hex digits that change with any value of the config; dotted keys in `ignore` (where a run writes, say) do not count."""
    tree = resolved(config)
    for key in ignore:
        *parents, last = key.split(".")
        node = tree
        for name in parents:
            node = node.get(name, {})
        node.pop(last, None)
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:12]
