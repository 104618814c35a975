"""Two versions on one page."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import hornpipe
from contract import bundle
from contract.errors import BundleError
from contract.evidence import Finding, Metric, Slice
from contract.manifest import DataFacts
from tests.conftest import NAME
from tests.training.documents import Document
from training.errors import DataError
from training.exporting.results import RESULTS, Results
from training.pages.compare import compare
from training.report import results_of

WHERE = {"month": "1..3", "carrier": "<b>$x$</b>"}
OVERFITTING = Finding(rule="overfitting", severity="warning", step=3, evidence={}, cause="", fix="")


def metric(value: float) -> Metric:
    return Metric(value=value, low=value - 0.01, high=value + 0.01)


def publish(models: Path, results: dict[str, Any], manifest: dict[str, Any]) -> None:
    """Version 1 once more, with other results and another manifest."""
    first = bundle.read_version(models, NAME, 1)
    with bundle.staged(models, NAME) as staging:
        shutil.copytree(first.path, staging, dirs_exist_ok=True)
        measured = results_of(first).model_copy(update=results)
        (staging / RESULTS).write_text(measured.model_dump_json(exclude_defaults=True))
        bundle.publish(staging, lambda version: first.manifest.model_copy(update={**manifest, "version": version}))


def measured(models: Path, **changes: float) -> dict[str, Metric]:
    """The metrics of version 1, some of them moved; intervals too narrow to overlap."""
    results = results_of(bundle.read_version(models, NAME, 1))
    return {
        name: Metric(value=each.value + changes.get(name, 0), low=each.value - 9, high=each.value + 9)
        for name, each in results.metrics.items()
    }


def rows(html: str) -> list[str]:
    """The lines of all tables as text."""
    return [Document(line).text for line in html.split("<tr")[1:]]


def test_which_is_better_metric_by_metric(models: Path) -> None:
    metrics = measured(models, roc_auc=0.0321, log_loss=0.0123, recall=-0.02)
    publish(models, {"metrics": metrics}, {})
    html = compare(models, NAME, 1, 2)
    document = Document(html)
    cells = {name: row for row in html.split("<tr")[1:] for name in metrics if f">{name.replace('_', ' ')}</th>" in row}

    assert document.problems == []
    assert "Version 2 has the better ROC AUC, by 0.0321 over 1, but the intervals overlap." in document.text
    assert '<td class="yes">+0.0321</td>' in html
    assert '<td class="no">-0.0123</td>' in cells["log_loss"]  # less would be better
    assert '<td class="no">-0.0200</td>' in cells["recall"]
    assert '<td class="">0.0000</td>' in cells["accuracy"]
    assert "different data" not in document.text


def test_intervals_that_lie_apart_and_the_other_way_round(models: Path) -> None:
    own = results_of(bundle.read_version(models, NAME, 1)).metrics["roc_auc"]
    publish(models, {"metrics": measured(models) | {"roc_auc": metric(own.low - 0.05)}}, {})
    by = f"{own.value - own.low + 0.05:.4f}"

    assert f"Version 1 has the better ROC AUC, by {by} over 2." in Document(compare(models, NAME, 1, 2)).text
    assert f"Version 1 has the better ROC AUC, by {by} over 2." in Document(compare(models, NAME, 2, 1)).text
    assert "Both versions have the same ROC AUC." in Document(compare(models, NAME, 1, 1)).text


def test_what_was_changed_in_the_config_by_its_full_name(models: Path) -> None:
    config = json.loads(json.dumps(bundle.read_version(models, NAME, 1).manifest.config))
    config["training"]["epochs"] = 99
    config["model"]["hidden"] = [1, 2]
    config["features"]["extra"] = {"kind": "number"}
    del config["data"]["positive"]
    publish(models, {}, {"config": config})
    html = compare(models, NAME, 1, 2)
    changed = [row.removeprefix(">") for row in rows(html[html.index("What was changed") : html.index("Facts")])][1:]

    assert sorted(each.strip() for each in changed) == [
        "data.positive late",
        'features.extra {"kind": "number"}',
        "model.hidden [32, 16] [1, 2]",
        "training.epochs 6 99",
    ]
    assert "Nothing." in Document(compare(models, NAME, 1, 1)).text


def test_facts_slices_and_data_of_both(models: Path) -> None:
    first = bundle.read_version(models, NAME, 1)
    data = DataFacts(**{**first.manifest.data.model_dump(), "fingerprint": "0" * 64})
    slices = tuple(Slice(where=where, rows=5, metric=metric(0.4)) for where in (WHERE, {"month": "9"}))
    publish(models, {"slices": slices}, {})
    publish(models, {"slices": slices[:1], "findings": (OVERFITTING,)}, {"data": data})
    html = compare(models, NAME, 2, 3)
    document = Document(html)

    assert document.problems == []
    assert "trained and measured on different data" in document.text
    assert "findings of the doctor none overfitting" in document.text
    assert "month 1 to 3, carrier <b>$x$</b> 0.4000 0.3900 to 0.4100 0.4000" in document.text
    assert "month 9" not in document.text
    assert compare(models, NAME, 2, 3) == html


def test_versions_of_other_tasks_are_still_shown(models: Path) -> None:
    results = Results(headline="rmse", metrics={"rmse": metric(5)})
    publish(models, {**results.__dict__}, {})
    document = Document(compare(models, NAME, 1, 2))

    assert document.problems == []
    assert "Version 1 has no RMSE." in document.text


def test_a_version_from_before_is_an_error_that_names_it(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(models, {}, {})
    (models / NAME / "2" / RESULTS).unlink()
    with pytest.raises(DataError, match=rf"{NAME}/2:\s+{RESULTS} is missing"):
        compare(models, NAME, 1, 2)

    assert hornpipe.main(["compare", NAME, "1", "2", "--models", str(models)]) == 1
    assert f"{RESULTS} is missing" in capsys.readouterr().err
    with pytest.raises(BundleError, match="9"):
        compare(models, NAME, 1, 9)


def test_the_command_writes_the_page(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(models, {}, {})
    monkeypatch.chdir(tmp_path)

    assert hornpipe.main(["compare", NAME, "1", "2", "--models", str(models)]) == 0
    assert capsys.readouterr().out.strip() == f"{NAME}-1-2.html"
    assert hornpipe.main(["compare", NAME, "1", "2", "--models", str(models), "-o", "x.html"]) == 0
    assert Path("x.html").read_text("utf-8") == Path(f"{NAME}-1-2.html").read_text("utf-8")
