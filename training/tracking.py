"""Where a run is shown besides the terminal: TensorBoard always, MLflow where MLFLOW_TRACKING_URI says so.

Both listen; neither can end a run. What they show is also in the run's folder, so nothing is lost with them.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from contract.bundle import MANIFEST, Bundle, replace_file
from training.errors import Interrupted, TrainingError
from training.listener import Silent
from training.report import REPORT
from training.results import RESULTS
from training.sections import TrainingConfig
from training.signals import Evaluation, Probe

TENSORBOARD = "tensorboard"
MLFLOW_RUN = "mlflow_run_id"
MLFLOW_URI = "MLFLOW_TRACKING_URI"
LONGEST_PARAMETER = 500

log = logging.getLogger("hornpipe.tracking")


class TensorBoard(Silent):
    """Event files in `folder`: losses, the monitored metric, learning rate, gradients, and each layer's signals.

    A run that is continued writes to the same folder; what a killed process had written twice has the same step.
    """

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf

        self._scalar: Callable[..., Any] = tf.summary.scalar
        self._writer = tf.summary.create_file_writer(str(folder))

    def on_evaluation(self, evaluation: Evaluation) -> None:
        self._write(evaluation.step, "evaluation", _numbers(evaluation))

    def on_probe(self, probe: Probe) -> None:
        self._write(probe.step, "probe", _numbers(probe))
        for layer in probe.layers:
            self._write(probe.step, f"layer/{layer.layer}", _numbers(layer))

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.close()

    def _write(self, step: int, group: str, values: Mapping[str, float]) -> None:
        with self._writer.as_default(step=step):
            for name, value in values.items():
                self._scalar(f"{group}/{name}", value)
        self._writer.flush()


class MLflow(Silent):
    """One MLflow run for one training run, in the experiment of the model's name; its id is kept in the run's folder,
    so that a run that is continued is the same one there too."""

    def __init__(self, config: TrainingConfig, run: Path) -> None:
        import mlflow

        self._client = mlflow.MlflowClient()
        self._id = ""
        self._lost = False
        self._safely(lambda: self._begin(config, run))

    def on_evaluation(self, evaluation: Evaluation) -> None:
        self._metrics(_numbers(evaluation), evaluation.step)

    def finish(self, bundle: Bundle) -> None:
        """Test metrics, what the version is, its report, and the end of the run."""
        self._metrics({f"test_{name}": metric.value for name, metric in bundle.manifest.metrics.items()}, 0)
        self._safely(lambda: self._publish(bundle))

    def fail(self, why: str) -> None:
        """The run ended without a version."""
        self._safely(lambda: self._client.set_tag(self._id, "why", why))
        self._safely(lambda: self._client.set_terminated(self._id, "FAILED"))

    def _begin(self, config: TrainingConfig, run: Path) -> None:
        kept = run / MLFLOW_RUN
        if kept.exists():
            self._id = kept.read_text()
            return
        experiment = self._client.get_experiment_by_name(config.name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(config.name)
        self._id = self._client.create_run(experiment_id, run_name=run.name).info.run_id
        replace_file(kept, self._id.encode())
        for key, value in _flat("", config.model_dump(mode="json", exclude_none=True)):
            self._client.log_param(self._id, key, value[:LONGEST_PARAMETER])

    def _metrics(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._safely(partial(self._client.log_metric, self._id, name, value, step=step))

    def _publish(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        tags = {
            "version": str(manifest.version),
            "data": manifest.data.fingerprint,
            "serves as": manifest.chosen.variant,
        }
        if manifest.verdict is not None:
            tags["verdict"] = "passed" if manifest.verdict.passed else "refused"
        for key, value in tags.items():
            self._client.set_tag(self._id, key, value)
        for name in (MANIFEST, RESULTS, REPORT):
            if (bundle.path / name).exists():
                self._client.log_artifact(self._id, str(bundle.path / name))
        self._client.set_terminated(self._id, "FINISHED")

    def _safely(self, call: Callable[[], object]) -> None:
        """A server that fails costs its own pictures, not the training. It is told once."""
        if self._lost:
            return
        try:
            call()
        except Exception as error:  # whatever a client library may raise
            self._lost = True
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
    """The MLflow run of a training run, if one is wanted; marked as failed when training fails. A run that was
    interrupted stays open there, since it goes on."""
    tracked = MLflow(config, run) if mlflow_wanted() else None
    try:
        yield tracked
    except (Interrupted, KeyboardInterrupt):
        raise
    except Exception as error:
        if tracked is not None:
            tracked.fail(str(error))
        raise


def _numbers(part: Evaluation | Probe | Any) -> dict[str, float]:  # noqa: ANN401  # any part of a record
    return {
        name: float(value)
        for name, value in part.model_dump().items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "step"
    }


def _flat(prefix: str, value: object) -> Iterator[tuple[str, str]]:
    """Nested tables as dotted keys."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else key, inner)
    else:
        yield prefix, str(value)
