"""hornpipe jobs triggers: what asks for a job, what holds it back now, and what was decided."""

from pathlib import Path
from typing import Any

import pytest

from contract import bundle, routing
from contract.job import Order
from contract.jobs import opened
from hornpipe import main
from tests.conftest import NAME, add_version


def shown(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], **section: Any) -> str:
    if section:
        config = bundle.read_version(models, NAME, 1).manifest.config
        version = add_version(models, config={**config, "retrain": section}).manifest.version
        routing.promote(models, NAME, version, by="test", why="test")
    assert main(["jobs", "triggers", NAME, "--models", str(models), "--jobs", str(tmp_path / "jobs.sqlite")]) == 0
    return capsys.readouterr().out


def test_what_asks_for_a_job_and_what_holds_it_back(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quality = {"metric": "roc_auc", "bound": 0.7}
    out = shown(models, tmp_path, capsys, schedule="0 3 * * 1", on_labels=500, on_quality=quality, most_a_day=1)
    assert "schedule    0 3 * * 1 in UTC, next at 20" in out
    assert "on_labels   500 rows with a new label" in out
    assert "on_quality  roc_auc worse than 0.7, of 500 labelled rows at least" in out
    assert "now         a job would be asked for; it may begin at once" in out

    with opened(tmp_path / "jobs.sqlite") as jobs:
        jobs.ask(Order(model=NAME, config="{}", cause="labels", asked_by="labels", why="500 rows"))
    with bundle.locked(models / NAME):
        routing.note(models, NAME, "asked", None, "labels", "job 1: 500 rows")
    out = shown(models, tmp_path, capsys)
    assert "now         no job would be asked for: job 1 is queued" in out
    assert out.splitlines()[-1].endswith("asked      labels    job 1: 500 rows")


def test_a_config_that_wishes_for_nothing(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(models, tmp_path, capsys).endswith("nothing but a person asks for a job\n")


def test_what_is_not_in_production_has_no_wish(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_version(models, "idle")
    assert main(["jobs", "triggers", "idle", "--models", str(models)]) == 1
    assert "idle has no version in production" in capsys.readouterr().err
