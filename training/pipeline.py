"""The table of contents of training: from a config to a published bundle."""

from pathlib import Path
from tempfile import TemporaryDirectory

import keras

from contract.bundle import Bundle
from training import baselines, devices, evaluate, fit, model
from training.course import Course
from training.data import prepare
from training.export import export
from training.progress import TrainingProgress
from training.rows import Prepared, Rows
from training.run import Run
from training.sections import TrainingConfig
from training.task import Scores


def run(config: TrainingConfig, models: Path, progress: TrainingProgress) -> Bundle:
    """Train, evaluate and publish the next version of `config.name` under `models`.

    Raises DataError before training when the data is not what the config says, and ParityError after it when the
    exported model does not answer as the trained one. In both cases `models` is as it was.
    """
    with progress.stage("reading and checking the data"):
        prepared = prepare(config)
    logits = train(config, prepared, progress)
    threshold, seed = float(config.serving.threshold), config.training.seed  # type: ignore[arg-type]
    with progress.stage("evaluating on the test rows"):
        scores = score(logits, prepared.test)
        metrics = evaluate.metrics_with_intervals(prepared.test.labels, scores, threshold, seed)
    with progress.stage("fitting the baselines on the same split"):
        fitted = tuple(each.baseline for each in baselines.fit(prepared, config))
    with progress.stage("exporting, quantizing, proving and timing"):
        return export(logits, prepared, config, models, metrics, fitted, threshold)


def train(config: TrainingConfig, prepared: Prepared, progress: TrainingProgress) -> keras.Model:
    """A trained model of packed inputs -> logits [n], with the weights of its best evaluation."""
    with devices.building(config.training):
        logits = model.build(prepared, config.model)
    steps = Course(prepared.train, config.training).steps
    with TemporaryDirectory(prefix="hornpipe-") as root, Run.open(Path(root), config) as run:  # noqa: SIM117
        with progress.training(steps) as listener:
            fit.fit(logits, prepared, config, run, listener)
    return logits


def score(logits: keras.Model, rows: Rows) -> Scores:
    """Probabilities of the positive class, float32 [n]."""
    return fit.predict(keras.Model(logits.input, keras.ops.sigmoid(logits.output)), rows.encoded)
