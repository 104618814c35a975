"""The rules of deploy/prometheus/rules on made-up series, evaluated by Prometheus' own promtool."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

RULES = Path("deploy/prometheus/rules").resolve()
GROUPS = {
    group["name"]: group["rules"]
    for path in sorted(RULES.glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
}


@dataclass(frozen=True)
class Case:
    """What is exported, and who rings at which moment; `every` is how often series are sampled and rules evaluated."""

    alert: str
    name: str
    given: Sequence[dict[str, str]]
    at: str
    firing: Sequence[dict[str, str]] = ()
    every: str = "1m"


def needs(*binaries: str) -> pytest.MarkDecorator:
    """Where CI promises them, a test that cannot be run fails."""
    missing = [binary for binary in binaries if shutil.which(binary) is None]
    return pytest.mark.skipif(bool(missing) and "CI" not in os.environ, reason=f"Debian has {missing}; see .ci/run")


def series(metric: str, values: str, /, **labels: str) -> dict[str, str]:
    """`values` in promtool's notation: 0+5x60 is sixty times five more than before."""
    inside = ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items())
    return {"series": f"{metric}{{{inside}}}", "values": values}


def evaluate(
    folder: Path,
    given: Iterable[dict[str, str]],
    *,
    step: str,
    every: str,
    expressions: Sequence[dict[str, Any]] = (),
    alerts: Sequence[dict[str, Any]] = (),
    groups: Sequence[str] = tuple(GROUPS),
) -> str:
    """What promtool complains of; nothing, when all is as expected.

    It evaluates all groups at the same moments, whatever their own intervals are: what is recorded first, then alerts.
    """
    order = sorted(groups, key=lambda name: "alerts" in name)
    rules = {"groups": [{"name": name, "rules": GROUPS[name]} for name in order]}
    tests = {"interval": step, "input_series": list(given), "promql_expr_test": expressions, "alert_rule_test": alerts}
    test = {"rule_files": ["rules.yml"], "evaluation_interval": every, "group_eval_order": order, "tests": [tests]}
    for name, content in (("rules.yml", rules), ("test.yml", test)):
        (folder / name).write_text(json.dumps(content))  # JSON is YAML too
    ran = subprocess.run(
        ["promtool", "test", "rules", f"{folder}/test.yml"], capture_output=True, text=True, check=False
    )
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def rings(alert: str, at: str, *firing: dict[str, str]) -> dict[str, Any]:
    """An expression that holds if these, of all with that name, fire at that moment."""
    samples = [
        {"labels": series("ALERTS", "", alertname=alert, alertstate="firing", **labels)["series"], "value": 1}
        for labels in firing
    ]
    expression = f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
    return {"expr": expression, "eval_time": at, "exp_samples": samples}
