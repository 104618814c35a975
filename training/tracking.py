"""Where a run is shown besides the terminal: TensorBoard always, MLflow where MLFLOW_TRACKING_URI says so.

Both listen; neither can end a run, nor hold it up. What they show is also in the run's folder, so nothing is lost with
them.
"""

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from contract.bundle import MANIFEST, Bundle, replace_file
from contract.errors import Stopped
from training.courier import Courier
from training.diagnosis.signals import Evaluation, Probe
from training.errors import TrainingError
from training.exporting.results import RESULTS
from training.listener import Silent
from training.report import REPORT
from training.sections import TrainingConfig

TENSORBOARD = "tensorboard"
MLFLOW_RUN = "mlflow_run_id"
MLFLOW_URI = "MLFLOW_TRACKING_URI"
MLFLOW_EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"

# What MLflow's client does unless the environment says otherwise: it would try for four minutes to reach a server that
# is down, and report its use to its makers.
MLFLOW_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
LONGEST_PARAMETER, MOST_PARAMETERS = 500, 100  # characters of a value; parameters of one request
PATIENCE, SHORT_PATIENCE = 60.0, 1.0  # seconds to wait for the server at the end of a run, and when it is stopped

log = logging.getLogger("hornpipe.tracking")


class TensorBoard(Silent):
    """Event files in `folder`: losses, the monitored metric, learning rate, gradients, and each layer's signals.

    A run that is continued writes another file to the same folder, and TensorBoard reads them as one; what a killed
    process had written beyond its last checkpoint is then there twice, with the same step.
    """

    def __init__(self, folder: Path) -> None:
        # Not tf.summary: that takes 45 ms for the layers of one probe of the tabular preset, this less than one.
        self._writer = EventFileWriter(str(folder))
        self._lost = False

    def on_evaluation(self, evaluation: Evaluation) -> None:
        self._write(evaluation.step, {f"evaluation/{name}": value for name, value in _numbers(evaluation).items()})

    def on_probe(self, probe: Probe) -> None:
        layers = {
            f"layer/{each.layer}/{name}": value for each in probe.layers for name, value in _numbers(each).items()
        }
        self._write(probe.step, {f"probe/{name}": value for name, value in _numbers(probe).items()} | layers)

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._lost:
            self._writer.close()

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if self._lost:
            return
        scalars = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        try:
            self._writer.add_event(Event(wall_time=time.time(), step=step, summary=scalars))
            self._writer.flush()
        except Exception as error:  # of a full disk, say; where TensorFlow writes, it is no OSError
            self._lost = True
            log.warning("TensorBoard is not told any more: %s", error)


class MLflow(Silent):
    """One MLflow run for one training run, in the experiment of the model's name or MLFLOW_EXPERIMENT_NAME. Its id is
    kept in the run's folder, so that a run that is continued is the same one there too. Training does not wait for the
    server; one that fails costs its own pictures, and is told once."""

    def __init__(self, config: TrainingConfig, run: Path) -> None:
        for name, value in MLFLOW_DEFAULTS.items():
            os.environ.setdefault(name, value)
        self._client: Any = None  # imported late, and without type information here
        self._id = ""
        self._courier = Courier("mlflow", self._lost)
        self._courier.send(lambda: self._begin(config, run))

    def on_evaluation(self, evaluation: Evaluation) -> None:
        self._metrics(_numbers(evaluation), evaluation.step)

    def on_probe(self, probe: Probe) -> None:
        self._metrics({name: value for name, value in _numbers(probe).items() if name != "learning_rate"}, probe.step)

    def finish(self, bundle: Bundle) -> None:
        """Test metrics, what the version is, its report, and the end of the run."""
        self._metrics({f"test_{name}": metric.value for name, metric in bundle.manifest.metrics.items()}, 0)
        self._courier.send(lambda: self._publish(bundle))
        self._end("FINISHED", PATIENCE)

    def fail(self, why: str) -> None:
        """The run ended without a version."""
        self._courier.send(lambda: self._client.set_tag(self._id, "why", why))
        self._end("FAILED", PATIENCE)

    def stop(self) -> None:
        """The run was interrupted; it goes on when it is continued."""
        self._end("KILLED", SHORT_PATIENCE)

    def _end(self, status: str, patience: float) -> None:
        self._courier.send(lambda: self._client.set_terminated(self._id, status))
        if not self._courier.close(patience):
            log.warning("MLflow at %s did not take everything within %.0f s", os.environ.get(MLFLOW_URI), patience)

    def _begin(self, config: TrainingConfig, run: Path) -> None:
        import mlflow

        self._client = mlflow.MlflowClient()
        kept = run / MLFLOW_RUN
        if not (kept.exists() and self._continues(kept.read_text())):
            self._id = self._new(config, run.name)
            replace_file(kept, self._id.encode())

    def _continues(self, kept: str) -> bool:
        """Whether the server still has the run; it is then running again."""
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_run(kept)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # another server
                return False
            raise
        if found.info.lifecycle_stage != "active":  # somebody deleted it there
            return False
        self._client.update_run(kept, status="RUNNING")
        self._id = kept
        return True

    def _new(self, config: TrainingConfig, name: str) -> str:
        from mlflow.entities import Param

        title = os.environ.get(MLFLOW_EXPERIMENT) or config.name
        experiment = self._client.get_experiment_by_name(title)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(title)
        run: str = self._client.create_run(experiment_id, run_name=name, tags={"model": config.name}).info.run_id
        parameters = [Param(key, value) for key, value in _parameters(config).items()]
        for start in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(run, params=parameters[start : start + MOST_PARAMETERS])
        return run

    def _metrics(self, values: Mapping[str, float], step: int) -> None:
        self._courier.send(partial(self._log_metrics, values, step, int(time.time() * 1000)))

    def _log_metrics(self, values: Mapping[str, float], step: int, now: int) -> None:
        from mlflow.entities import Metric

        self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def _publish(self, bundle: Bundle) -> None:
        for key, value in _tags(bundle).items():
            self._client.set_tag(self._id, key, value)
        for name in (MANIFEST, RESULTS, REPORT):
            if (bundle.path / name).exists():
                self._client.log_artifact(self._id, str(bundle.path / name))

    def _lost(self, error: Exception) -> None:
        log.warning("MLflow at %s is not told any more: %s", os.environ.get(MLFLOW_URI), error)


def mlflow_wanted() -> bool:
    """Whether MLFLOW_TRACKING_URI is set. Raises TrainingError where it is, and mlflow is not installed."""
    if not os.environ.get(MLFLOW_URI):
        return False
    if find_spec("mlflow") is None:
        raise TrainingError(f"{MLFLOW_URI} is set, but mlflow is not installed: pip install 'hornpipe[mlflow]'")
    return True


@contextmanager
def mlflow_run(config: TrainingConfig, run: Path) -> Iterator[MLflow | None]:
    """The MLflow run of a training run, if one is wanted; marked as failed when training fails, and as killed when it
    was interrupted, until it is continued."""
    tracked = MLflow(config, run) if mlflow_wanted() else None
    try:
        yield tracked
    except (Stopped, KeyboardInterrupt):
        if tracked is not None:
            tracked.stop()
        raise
    except Exception as error:
        if tracked is not None:
            tracked.fail(str(error))
        raise


def _tags(bundle: Bundle) -> dict[str, str]:
    manifest = bundle.manifest
    tags = {
        "version": str(manifest.version),
        "data": manifest.data.fingerprint,
        "code": manifest.code_revision or "unknown",
        "serves as": manifest.chosen.variant,
    }
    if manifest.verdict is not None:
        tags["verdict"] = "passed" if manifest.verdict.passed else "refused"
    return tags


def _numbers(part: Any) -> dict[str, float]:  # noqa: ANN401  # any part of a record
    return {
        name: float(value)
        for name, value in part.model_dump().items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "step"
    }


def _parameters(config: TrainingConfig) -> dict[str, str]:
    """Every value of the config by its dotted key, in the characters and the length that MLflow takes."""
    values = _flat("", config.model_dump(mode="json", exclude_none=True))
    return {re.sub(r"[^\w./: -]", "_", key, flags=re.ASCII): value[:LONGEST_PARAMETER] for key, value in values}


def _flat(prefix: str, value: object) -> Iterator[tuple[str, str]]:
    """Nested tables as dotted keys."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else key, inner)
    else:
        yield prefix, str(value)
