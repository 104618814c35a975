"""The training config: a TOML file, strict, that travels in the manifest.

name = "flights"
task = "binary" | "multiclass" | "regression"
[data]          where the rows are, and which column is the target
[split]         by time, random, group or order
[features]      column = "number" | "category" | "text" | "image", or a table with more to say
[model]         the network             [training]    how it learns
[adversarial]   against perturbations   [evaluation]  what is measured
[quantization]  which variants are made [serving]     what the service accepts
[gate]          what a version must keep to, and [[checks]] of one's own
[retrain]       when it is trained again [promotion]  how a new version comes to serve
"""

import json
import tomllib
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from training.errors import ConfigError, did_you_mean
from training.sections import Section, TrainingConfig


def load(path: Path, overrides: list[str] | None = None, name: str | None = None) -> TrainingConfig:
    """Read a config file; `overrides` are `section.key=value` with the value in TOML, or a bare string.

    Raises ConfigError with every problem: an unknown key with the nearest valid one, a wrong type, a broken rule.
    """
    return read(text_of(path), str(path), overrides or (), name)


def text_of(path: Path) -> str:
    """Raises ConfigError."""
    try:
        return path.read_text()
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"is not TOML: {error}"]) from error


def read(text: str, source: str, overrides: Sequence[str] = (), name: str | None = None) -> TrainingConfig:
    """The same of a config's text, or of the JSON that a manifest has of it; `source` is what to call it."""
    is_json = text.startswith("{")  # TOML never begins so
    try:
        raw = json.loads(text) if is_json else tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(source, [f"is not TOML: {error}"]) from error
    for override in overrides:
        _set(raw, override)
    return parse(raw if name is None else raw | {"name": name}, source, is_json=is_json)


def parse(raw: dict[str, Any], source: str = "config", *, is_json: bool = False) -> TrainingConfig:
    """Check a config that is parsed already; JSON has its dates as text. Raises ConfigError."""
    try:
        if is_json:
            return TrainingConfig.model_validate_json(json.dumps(raw, default=str))
        return TrainingConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(source, list(_lines(raw, error.errors()))) from error


def _set(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError("--set", [f"{override}: expected key=value, such as training.epochs=3"])
    *sections, last = key.strip().split(".")
    for section in sections:
        raw = raw.setdefault(section, {})
        if not isinstance(raw, dict):
            raise ConfigError("--set", [f"{override}: {section} is not a section"])
    raw[last] = _toml_value(text.strip())


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _lines(raw: dict[str, Any], errors: list[ErrorDetails]) -> Iterator[str]:
    """One line a key. A key that may be several things has an error from each of them."""
    for key, same in groupby(errors, lambda error: _key(raw, error)):
        *others, last = dict.fromkeys(_problem(error) for error in same)
        yield f"{key}: {' or '.join([*(other.rsplit(', got ')[0] for other in others), last])}"


def _problem(error: ErrorDetails) -> str:
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key; {did_you_mean(str(error['loc'][-1]), _valid_keys(error['loc']))}"
        case "missing":
            return "is missing"
        case "value_error":
            return str(error["ctx"]["error"])
        case _:
            return f"{error['msg'][:1].lower()}{error['msg'][1:]}, got {error['input']!r}"


def _key(raw: object, error: ErrorDetails) -> str:
    """The key as the file has it: without the names of union members, which pydantic puts between the parts."""
    parts, node, location = [], raw, error["loc"]
    names_a_key = error["type"] in ("missing", "extra_forbidden")
    for part, following in zip(location, [*location, None][1:], strict=True):
        if _within(node, part) and not (following is not None and _within(node, following)):
            parts.append(part)
            node = node[part]  # type: ignore[index]  # a dict or a list
        elif following is None and names_a_key:
            parts.append(part)
    return ".".join(map(str, parts)) or "config"


def _within(node: object, part: int | str) -> bool:
    return part in node if isinstance(node, dict) else isinstance(node, list) and isinstance(part, int)


def _valid_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at `location` knows."""
    sections: list[type[Section]] = [TrainingConfig]
    for part in location[:-1]:
        fields = [section.model_fields[str(part)] for section in sections if str(part) in section.model_fields]
        within = [section for field in fields for section in _sections(field.annotation, *field.metadata)]
        # Else the part is the name of a union's member, or a key of a table.
        sections = within or [section for section in sections if _is_called(section, str(part))] or sections
    return sorted({key for section in sections for key in section.model_fields})


def _sections(*annotations: object) -> Iterator[type[Section]]:
    """Every section that an annotation speaks of."""
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield annotation
        yield from _sections(*get_args(annotation))


def _is_called(section: type[Section], name: str) -> bool:
    tags = [section.model_fields[key].annotation for key in ("preset", "by", "kind") if key in section.model_fields]
    return section.__name__ == name or any(name in get_args(tag) for tag in tags)
