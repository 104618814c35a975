"""The table of contents of training: from a config to a published, judged bundle."""

import getpass
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import keras

from contract import routing
from contract.bundle import Bundle
from contract.evidence import Verdict
from contract.manifest import Manifest
from training import fit, gate, model, tracking
from training.data import prepare
from training.doctor import examine
from training.evaluation.assessment import assess
from training.export import export
from training.exporting.silence import quiet
from training.fit import Outcome
from training.judging import checkable
from training.judging.answers import Answers
from training.listener import All, Listener
from training.loop import devices
from training.loop.course import Course
from training.loop.run import Run
from training.progress import TrainingProgress
from training.rows import Prepared
from training.sections import TrainingConfig
from training.sources.labelled import Exporter

# Encoded rows of a run whose data do not fit into memory.
DATA = "data"

# Called right before a version is published, while nobody else publishes one of its model; what it raises prevents it.
Fence = Callable[[], None]


def run(
    config: TrainingConfig,
    models: Path,
    runs: Path,
    progress: TrainingProgress,
    *,
    fresh: bool = False,
    fence: Fence | None = None,
    logged: Exporter | None = None,
) -> Bundle:
    """Train, assess, judge and publish the next version of `config.name` under `models`; what is needed to go on after
    a kill is kept under `runs`. A run that was killed when its version was there already publishes no other. `logged`
    writes the service's rows that `data.labelled` asks for.

    Raises ConfigError and DataError before training, Interrupted when it was asked to stop (the same call goes on), and
    TrainingError, ParityError or ProofFailed where nothing can be published. `models` is as it was then.
    """
    checkable.require(config)
    with Run.open(runs, config, fresh) as folder, tracking.mlflow_run(config, folder.path) as mlflow:
        made = folder.made(models, config.name)
        if made is None:
            made = _from_data(config, models, folder, progress, [mlflow] if mlflow else [], fence, logged)
        else:
            conclude(made, models, folder)
        if mlflow is not None:
            mlflow.finish(made)
    return made


def _from_data(
    config: TrainingConfig,
    models: Path,
    folder: Run,
    progress: TrainingProgress,
    others: Sequence[Listener],
    fence: Fence | None,
    logged: Exporter | None,
) -> Bundle:
    with progress.stage("reading and checking the data"):
        prepared = prepare(config, folder.path / DATA, logged, gate.production(models, config.name))
    checkable.require_of_data(config, prepared)
    folder.is_on(prepared.fingerprint)
    progress.warn(prepared.warnings)
    return complete(prepared, config, models, folder, progress, others, fence)


def complete(
    prepared: Prepared,
    config: TrainingConfig,
    models: Path,
    folder: Run,
    progress: TrainingProgress,
    others: Sequence[Listener] = (),
    fence: Fence | None = None,
) -> Bundle:
    """All that comes after the data are read. `others` are told how training goes, besides the terminal."""
    network = build(prepared, config)
    outcome = train(network, prepared, config, folder, progress, others)
    findings = examine(outcome.record)
    assessment = assess(network, prepared, config, outcome, findings, progress.stage)
    judge = Gate(prepared, config, models, progress)

    def announce(manifest: Manifest) -> None:
        if fence is not None:
            fence()
        folder.publishing(manifest)

    with progress.stage("exporting, quantizing, proving and timing"):
        made = export(network, prepared, config, assessment, models, judge, announce)
    conclude(made, models, folder)
    return made


def conclude(made: Bundle, models: Path, folder: Run) -> None:
    """What follows once a version is there; to be done again does no harm."""
    note_verdict(models, made.manifest)
    folder.published(made.path)
    shutil.rmtree(folder.path / DATA, ignore_errors=True)


def build(prepared: Prepared, config: TrainingConfig) -> keras.Model:
    """The network before training, the same each time."""
    with devices.building(config.training):
        return model.build(prepared, config.model)


def train(
    network: keras.Model,
    prepared: Prepared,
    config: TrainingConfig,
    folder: Run,
    progress: TrainingProgress,
    others: Sequence[Listener] = (),
) -> Outcome:
    """Train in place, from where the run's folder is; the network then has the weights of its best evaluation. The
    terminal, the doctor, TensorBoard and `others` are told meanwhile."""
    with ExitStack() as stack:
        bar = stack.enter_context(progress.training(Course(prepared.train, config.training).steps))
        board = stack.enter_context(tracking.TensorBoard(folder.path / tracking.TENSORBOARD))
        attending = progress.attending(folder)
        return fit.fit(network, prepared, config, folder, All(bar, attending, board, *others))


@dataclass(frozen=True)
class Gate:
    """Judges a staged bundle against what serves when it is asked."""

    prepared: Prepared
    config: TrainingConfig
    models: Path
    progress: TrainingProgress

    def __call__(self, staged: Bundle) -> Verdict:
        with self.progress.stage("comparing with what serves"), quiet():
            rows = gate.held_out(self.prepared, self.config)
            return gate.judge(Answers(staged), self.models, rows, self.config)


def note_verdict(models: Path, manifest: Manifest) -> None:
    """The verdict as a line of the model's history, where it is not there yet."""
    verdict, version = manifest.verdict, manifest.version
    events = routing.history(models, manifest.name)
    verdicts = [event for event in events if event.action in ("passed", "refused") and event.to_version == version]
    noted = any(event.at >= manifest.created for event in verdicts)  # one of before is of a folder that was deleted
    if verdict is not None and not noted:
        failed = "; ".join(f"{reason.check}: {reason.detail}" for reason in verdict.reasons if not reason.passed)
        routing.judged(
            models,
            manifest.name,
            manifest.version,
            passed=verdict.passed,
            by=getpass.getuser(),
            why=failed or f"{len(verdict.reasons)} checks passed",
        )
