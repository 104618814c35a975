"""The doctor leaves healthy runs of the real loop in peace: the preset `tabular` on three sets of real data."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from sklearn import datasets

from training import config, fit, model
from training.data import prepare
from training.diagnosis.signals import Record
from training.doctor import Doctor, examine, until
from training.listener import Silent
from training.loop import devices
from training.loop.run import Run
from training.sections import TrainingConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def trained(settings: TrainingConfig, folder: Path) -> Record:
    """What the real loop records of a run, but for how long it waited for its data: that is the machine's affair."""
    data = prepare(settings)
    with devices.building(settings.training):
        network = model.build(data, settings.model)
    with Run.open(folder / "runs", settings) as run:
        record = fit.fit(network, data, settings, run, Silent()).record
    return record.model_copy(update={"probes": tuple(p.model_copy(update={"input_wait": 0.0}) for p in record.probes)})


def said(record: Record) -> list[str]:
    """What a person would be told on the way and at the end."""
    doctor = Doctor()
    on_the_way = [finding for i in range(len(record.evaluations)) for finding in doctor.news(until(record, i))]
    return [f"{finding.rule} {finding.evidence}" for finding in [*on_the_way, *examine(record)]]


def from_sklearn(data, task: str, folder: Path, **training: object) -> TrainingConfig:
    names = [f"f{i}" for i in range(data.data.shape[1])]
    columns = dict(zip(names, data.data.T.astype(np.float64), strict=True))
    pyarrow.csv.write_csv(pa.table(columns | {"label": [f"class {i}" for i in data.target]}), folder / "data.csv")
    return config.parse(
        {
            "name": "healthy",
            "task": task,
            "data": {"path": str(folder / "data.csv"), "target": "label"}
            | ({"positive": "class 1"} if task == "binary" else {}),
            "split": {"by": "random"},
            "features": dict.fromkeys(names, "number"),
            "model": {"hidden": [64, 64], "number_bins": 8},
            "training": {"batch_size": 32, "epochs": 20} | training,
        }
    )


def test_breast_cancer(tmp_path):
    settings = from_sklearn(datasets.load_breast_cancer(), "binary", tmp_path)
    assert said(trained(settings, tmp_path)) == []


def test_digits(tmp_path):
    settings = from_sklearn(datasets.load_digits(), "multiclass", tmp_path)
    assert said(trained(settings, tmp_path)) == []


@pytest.fixture(scope="module")
def more_flights(flights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two thousand flights a month, evenly spread: enough to learn from in seconds."""
    folder = tmp_path_factory.mktemp("more")
    for path in sorted(flights.glob("*.parquet")):
        month = pq.read_table(path)
        pq.write_table(month.take(np.linspace(0, len(month) - 1, 2000).astype(np.int64)), folder / path.name)
    return folder


@pytest.mark.parametrize("example", ["train", "random"])
def test_flights(more_flights, tmp_path, example):
    """On the split by time (train.toml) and on a random one."""
    changes = [f"data.path={more_flights}", "training.batch_size=256", "training.epochs=4", "model.hidden=[64, 64]"]
    settings = config.load(Path(f"examples/flights/{example}.toml"), changes)
    assert said(trained(settings, tmp_path)) == []
