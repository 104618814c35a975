"""What TensorBoard and MLflow are told: read back with TensorBoard's own reader, and from a real MLflow server."""

import csv
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from contract import bundle
from tests.ports import free_port
from tests.training import small
from tests.waiting import PATIENCE_SECONDS, wait_until
from training import pipeline, tracking
from training.diagnosis.signals import Evaluation, Record
from training.errors import Interrupted, TrainingError
from training.listener import Listener
from training.loop.run import Run
from training.progress import TrainingProgress

CONFIG = small.settings(epochs=4, checkpoint_seconds=1e-9)

EVALUATION = Evaluation(
    step=1,
    epoch=0.5,
    train_loss=0.4,
    validation_loss=0.5,
    monitor=0.6,
    train_monitor=0.7,
    learning_rate=1e-3,
    best=True,
)


class StopsAt(small.Heard):
    """Ends the process's training at its third evaluation, as a kill does."""

    def on_evaluation(self, evaluation: Evaluation) -> None:
        super().on_evaluation(evaluation)
        if len(self.evaluations) == 3:
            raise KeyboardInterrupt


def train(runs: Path, *others: Listener) -> tuple[Path, Record]:
    with Run.open(runs, CONFIG) as run:
        progress = TrainingProgress(Console(quiet=True))
        keras.backend.clear_session()  # a new process would count its layers from 0
        outcome = pipeline.train(small.network(), small.prepared(), CONFIG, run, progress, others)
        return run.path, outcome.record


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """tag -> step -> value. A step that was written twice must have one value."""
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    read.Reload()
    found: dict[str, dict[int, float]] = {}
    for tag in read.Tags()["scalars"]:
        for event in read.Scalars(tag):
            assert found.setdefault(tag, {}).setdefault(event.step, event.value) == event.value or "wait" in tag
    return found


def test_tensorboard_shows_evaluations_probes_and_layers_also_of_a_run_that_was_continued(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, StopsAt())
    path, record = train(tmp_path)
    folder = path / tracking.TENSORBOARD
    found = scalars(folder)

    assert len(list(folder.glob("events.out.tfevents.*"))) == 2
    assert len(record.evaluations) == 8
    for name in ("train_loss", "sample_loss", "validation_loss", "monitor", "train_monitor", "learning_rate", "epoch"):
        expected = {each.step: pytest.approx(getattr(each, name), rel=1e-6) for each in record.evaluations}
        assert found[f"evaluation/{name}"] == expected
    for name in ("loss", "gradient_norm", "spread", "learning_rate"):
        expected = {each.step: pytest.approx(getattr(each, name), rel=1e-6) for each in record.probes}
        assert found[f"probe/{name}"] == expected
    for layer in record.probes[0].layers:
        there = {name for name in ("gradient", "weight", "update", "inactive") if getattr(layer, name) is not None}
        assert there
        for name in there:
            values = [getattr(next(e for e in each.layers if e.layer == layer.layer), name) for each in record.probes]
            assert list(found[f"layer/{layer.layer}/{name}"].values()) == pytest.approx(values, rel=1e-6)


def test_a_disk_that_is_full_costs_the_pictures_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tracking.TensorBoard(tmp_path) as board:
        board.on_evaluation(EVALUATION)
        (file,) = tmp_path.iterdir()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 100, limits[1]))
        try:
            for _ in range(3):
                board.on_evaluation(EVALUATION)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    (told,) = [each.getMessage() for each in caplog.records if each.name == "hornpipe.tracking"]
    assert told.startswith("TensorBoard is not told any more")
    assert "File too large" in told


def test_an_uri_without_mlflow_is_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tracking.MLFLOW_URI, "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "mlflow", None)  # how Python itself notes what cannot be imported

    with pytest.raises(TrainingError, match=r"pip install 'hornpipe\[mlflow\]'"), tracking.mlflow_run(CONFIG, tmp_path):
        pass


def test_without_an_uri_mlflow_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tracking.MLFLOW_URI, raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)

    with tracking.mlflow_run(CONFIG, tmp_path) as tracked:
        assert tracked is None


def test_training_goes_on_without_the_server_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(tracking.MLFLOW_URI, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(tracking, "PATIENCE", PATIENCE_SECONDS)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with caplog.at_level(logging.WARNING, "hornpipe"), tracking.mlflow_run(CONFIG, tmp_path) as tracked:
        assert tracked is not None
        _, record = train(tmp_path, tracked)
        tracked.fail("")  # waits until all is done, or was given up

    told = [each.getMessage() for each in caplog.records if each.name == "hornpipe.tracking"]
    assert record.stopped == "finished"
    assert len(told) == 1
    assert "is not told any more" in told[0]
    assert not (tmp_path / tracking.MLFLOW_RUN).exists()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on a database of its own."""
    folder = tmp_path_factory.mktemp("mlflow")
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", url.rpartition(":")[2]]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [*command, "--workers", "1"], env=environment, stdout=log, stderr=log, start_new_session=True
    )
    try:
        wait_until(lambda: process.poll() is not None or healthy(url), "the MLflow server answers", seconds=180)
        assert process.poll() is None, (folder / "log").read_text()
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    from mlflow import MlflowClient

    monkeypatch.setenv(tracking.MLFLOW_URI, server)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return MlflowClient(server)


@pytest.mark.slow
@pytest.mark.timeout(600)  # the server alone takes half a minute on a busy machine
def test_a_run_that_ends_badly_says_why_and_is_the_same_one_when_continued(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "SHORT_PATIENCE", PATIENCE_SECONDS)
    monkeypatch.setattr(tracking, "PATIENCE", PATIENCE_SECONDS)
    config = small.settings(class_weights={"y$s, é": 2.0, "no": 1.0})
    with pytest.raises(Interrupted), tracking.mlflow_run(config, tmp_path):
        raise Interrupted("stopped")
    (experiment,) = [each for each in client.search_experiments() if each.name == "small"]
    (killed,) = client.search_runs([experiment.experiment_id])
    with pytest.raises(ValueError, match="too bad"), tracking.mlflow_run(config, tmp_path):  # noqa: PT012
        wait_until(lambda: client.get_run(killed.info.run_id).info.status == "RUNNING", "it goes on there", seconds=60)
        raise ValueError("too bad")
    (failed,) = client.search_runs([experiment.experiment_id])

    assert killed.info.status == "KILLED"
    assert (failed.info.run_id, failed.info.status) == (killed.info.run_id, "FAILED")
    assert failed.data.tags["why"] == "too bad"
    assert failed.data.params["training.class_weights.y_s_ _"] == "2.0"


@pytest.mark.slow
@pytest.mark.timeout(600)  # the server alone takes half a minute on a busy machine
def test_a_run_that_the_server_does_not_have_any_more_is_begun_anew_there(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", PATIENCE_SECONDS)
    ids = []
    for _ in range(2):
        with pytest.raises(ValueError, match="x"), tracking.mlflow_run(CONFIG, tmp_path):
            raise ValueError("x")
        ids.append((tmp_path / tracking.MLFLOW_RUN).read_text())
        client.delete_run(ids[-1])
    (tmp_path / tracking.MLFLOW_RUN).write_text("0" * 32)
    with pytest.raises(ValueError, match="x"), tracking.mlflow_run(CONFIG, tmp_path):
        raise ValueError("x")
    ids.append((tmp_path / tracking.MLFLOW_RUN).read_text())

    assert len(set(ids)) == 3
    assert client.get_run(ids[-1]).info.status == "FAILED"


@pytest.mark.slow
@pytest.mark.timeout(600)  # the server alone takes half a minute on a busy machine
def test_parameters_metrics_and_the_report_of_a_run_that_was_stopped_and_continued_are_on_the_server(
    client: Any, tmp_path: Path
) -> None:
    write_shop(tmp_path / "shop.csv")
    command = [sys.executable, "-m", "hornpipe", "train", str(write_config(tmp_path))]
    command += ["--models", str(tmp_path / "models"), "--runs", str(tmp_path / "runs")]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: first.poll() is not None or steps(client), "the first metrics arrive", seconds=120)
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate()
    ended = subprocess.run(command, capture_output=True, text=True)
    made = bundle.read_version(tmp_path / "models", "shop", 1)
    (run,) = client.search_runs([client.get_experiment_by_name("shop").experiment_id])
    (folder,) = (tmp_path / "runs" / "shop").iterdir()
    record = Run.read(folder).record
    history = {(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "validation_loss")}
    client.download_artifacts(run.info.run_id, "report.html", str(tmp_path))

    assert (first.returncode, ended.returncode) == (130, 0), said + ended.stderr
    assert run.info.status == "FINISHED"
    assert run.info.run_name == folder.name
    assert run.data.params["training.batch_size"] == "32"
    assert run.data.params["features.color.kind"] == "category"
    assert history == {(each.step, each.validation_loss) for each in record.evaluations}
    assert run.data.metrics["test_roc_auc"] == made.manifest.metrics["roc_auc"].value
    assert {name: run.data.tags[name] for name in ("version", "verdict", "serves as", "data")} == {
        "version": "1",
        "verdict": "passed",
        "serves as": made.manifest.chosen.variant,
        "data": made.manifest.data.fingerprint,
    }
    assert {each.path for each in client.list_artifacts(run.info.run_id)} == {
        "evaluation.json",
        "manifest.json",
        "report.html",
    }
    assert (tmp_path / "report.html").read_bytes() == (made.path / "report.html").read_bytes()


def steps(client: Any) -> list[int]:
    """Of the evaluations that have arrived."""
    experiment = client.get_experiment_by_name("shop")
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return [each.step for run in runs for each in client.get_metric_history(run.info.run_id, "validation_loss")]


def write_shop(path: Path) -> None:
    """A shop that sells what is red, or large."""
    chance = random.Random(0)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["color", "size", "sold"])
        for _ in range(600):
            color, size = chance.choice(["red", "blue", "gold"]), round(chance.gauss(0, 1), 3)
            out.writerow([color, size, "yes" if color == "red" or size > 1 else "no"])


def write_config(folder: Path) -> Path:
    path = folder / "shop.toml"
    path.write_text(
        f"""
        name = "shop"
        data = {{ path = "{folder}/shop.csv", target = "sold", positive = "yes" }}
        split = {{ by = "random" }}
        features = {{ color = "category", size = "number" }}
        model = {{ members = 1, hidden = [8], number_bins = 4 }}
        training = {{ epochs = 120, patience = 120, batch_size = 32, evaluations_per_epoch = 1 }}
        quantization = {{ variants = [] }}
        evaluation = {{ resamples = 20, robustness = false, importance = false, slices = false }}
        """
    )
    return path
