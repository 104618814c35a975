"""The panels of a dashboard as Grafana has them, and what they ask with all variables filled in."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

FOLDER = Path("deploy/grafana/dashboards")
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Query:
    """One target of one panel."""

    panel: str
    expression: str
    instant: bool


def boards() -> dict[str, dict[str, Any]]:
    """By name, as they are committed."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def queries(board: dict[str, Any]) -> Iterator[Query]:
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield Query(f"{board['title']}: {panel['title']}", target["expr"], target.get("instant", False))


def variables(expression: str) -> set[str]:
    """Names; `$1` is label_replace's."""
    return {name for found in VARIABLE.findall(expression) for name in found if name and not name.isdecimal()}


def filled(expression: str, values: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """With each combination of the values of its variables; raises KeyError for one that has none."""
    names = sorted(variables(expression))
    for combination in product(*(values[name] for name in names)):
        chosen = dict(zip(names, combination, strict=True))
        yield VARIABLE.sub(lambda found, chosen=chosen: chosen.get(found[1] or found[2], found[0]), expression)
