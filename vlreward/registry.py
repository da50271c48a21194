"""Name -> class for every kind of part. A part is one class in one file; no central list names it.

A family is a base class with `family = "rewards"` (say) and the packages its files live in. Looking a name up imports those
packages' files once, so a new file is found by being there. `pkg.mod:Class` and `file.py:Class` reach parts outside the package.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from vlreward.errors import ConfigError

PACKAGES = {
    "sources": ("vlreward.data", "vlreward.tiny", "vlreward.critics"),
    "comparisons": ("vlreward.data", "vlreward.tiny"),
    "judges": ("vlreward.models", "vlreward.tools"),
    "detectors": ("vlreward.models",),
    "readers": ("vlreward.models",),
    "reasoners": ("vlreward.rewards",),
    "heads": ("vlreward.critics.heads",),
    "critic_loss": ("vlreward.critics.losses",),
    "rewards": ("vlreward.rewards",),
    "advantages": ("vlreward.advantages",),
    "benchmarks": ("vlreward.bench.benchmarks",),
    "preferences": ("vlreward.vlm.preferences",),
    "fine": ("vlreward.vlm.preferences",),
    "choosers": ("vlreward.vlm.choosers",),
    "tools": ("vlreward.tools",),
    "generators": ("vlreward.flow.models",),
    "kernels": ("vlreward.flow.kernels",),
    "objectives": ("vlreward.flow.objectives",),
    "steers": ("vlreward.flow.steer",),
    "refiners": ("vlreward.flow.steer",),
}
_parts: dict[str, dict[str, type]] = {family: {} for family in PACKAGES}
_outside_files: dict[str, str] = {}

T = TypeVar("T", bound=type)


def register(name: str) -> Callable[[T], T]:
    """Class decorator: make a part reachable as `kind: name` in its family (taken from the base class)."""

    def add(cls: T) -> T:
        family = getattr(cls, "family", None)
        assert family in _parts, f"{cls.__name__} has no known family; derive it from a part's base class"
        known = _parts[family].get(name)
        same = known is None or (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
        assert same, f"two parts are called {name!r}"
        cls.kind = name
        _parts[family][name] = cls
        return cls

    return add


def parts(family: str) -> dict[str, type]:
    """All parts of a family by name, sorted; imports the family's packages."""
    for place in PACKAGES[family]:
        package = importlib.import_module(place)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.ispkg:
                importlib.import_module(f"{place}.{module.name}")
    return dict(sorted(_parts[family].items()))


def find(family: str, kind: str, folder: Path | None = None) -> type:
    """The class behind a `kind`. `folder` is searched for `file.py:Class` after the current one. Raises ConfigError."""
    if ":" in kind:
        return _outside(family, kind, folder)
    if kind.endswith(".py"):
        raise ConfigError(f"{kind!r} names a file without a class; write '{kind}:TheClass'")
    known = parts(family)
    if kind in known:
        return known[kind]
    close = difflib.get_close_matches(kind, known, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
    raise ConfigError(f"no {family.removesuffix('s')} is called {kind!r}. {hint}")


def _outside(family: str, kind: str, folder: Path | None) -> type:
    place, _, name = kind.rpartition(":")
    if place.endswith(".py"):
        found = [path for path in (Path(place), (folder or Path()) / place) if path.is_file()]
        if not found:
            raise ConfigError(f"{kind!r}: there is no file {place!r} here or beside the configuration")
        module: Any = _load_file(found[0].resolve())
        place = str(found[0].resolve())
    else:
        try:
            module = importlib.import_module(place)
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{kind!r}: cannot import {place!r} ({type(error).__name__}: {error})") from error
    cls = getattr(module, name, None)
    if not isinstance(cls, type) or getattr(cls, "family", None) != family:
        offered = [n for n, v in vars(module).items() if isinstance(v, type) and getattr(v, "family", None) == family]
        own = [n for n in offered if vars(module)[n].__module__ == module.__name__]
        raise ConfigError(f"{kind!r}: {place} has no {family.removesuffix('s')} class {name!r}; it has {', '.join(own) or 'none'}")
    if "kind" not in vars(cls):
        cls.kind = name
    cls.origin = f"{place}:{name}"
    return cls


def spelling(cls: type) -> str:
    """The `kind` by which a configuration finds the class again, from any folder."""
    return vars(cls).get("origin") or cls.kind  # type: ignore[attr-defined]


def outside() -> dict[str, str]:
    """The files of `file.py:Class` that were read so far, each with a mark of its text."""
    return dict(_outside_files)


def _load_file(path: Path) -> Any:
    key = f"vlreward_outside.{path.stem}_{abs(hash(path)):x}"
    if key not in sys.modules:
        _outside_files[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        spec = importlib.util.spec_from_file_location(key, path)
        assert spec is not None and spec.loader is not None, f"{path} is not a Python file"
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[key]
            raise ConfigError(f"{path}: {type(error).__name__} while it was imported: {error}") from error
    return sys.modules[key]
