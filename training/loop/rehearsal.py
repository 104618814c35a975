"""`--fast` and `--overfit-batch`: trials that find mistakes in seconds, and publish nothing."""

from pathlib import Path
from tempfile import TemporaryDirectory

from contract.bundle import Bundle
from contract.evidence import Finding
from training import pipeline
from training.data import prepare
from training.doctor import overfit_verdict
from training.judging import checkable
from training.loop import trial
from training.loop.run import Run
from training.loop.trial import Overfit
from training.progress import TrainingProgress
from training.rows import Prepared
from training.sections import TrainingConfig
from training.sources.labelled import Exporter


def fast(config: TrainingConfig, progress: TrainingProgress, logged: Exporter | None = None) -> Bundle:
    """Two steps of training and all that follows, on one batch of each part. The bundle that is returned is gone with
    its folder: whoever wants one trains. Raises what a real run would raise."""
    checkable.require(config)
    with TemporaryDirectory(prefix="hornpipe-") as name:
        folder = Path(name)
        config, prepared = trial.fast(config, _data(config, folder, progress, logged))
        with Run.open(folder / "runs", config) as run:
            return pipeline.complete(prepared, config, folder / "models", run, progress)


def overfit(
    config: TrainingConfig, progress: TrainingProgress, logged: Exporter | None = None
) -> tuple[Overfit, Finding | None]:
    """Learn one batch by heart; where that does not come near zero loss, what the doctor says is broken."""
    with TemporaryDirectory(prefix="hornpipe-") as name:
        prepared = _data(config, Path(name), progress, logged)
        network = pipeline.build(prepared, config)
        with progress.training(trial.OVERFIT_STEPS) as bar:
            learnt = trial.overfit_batch(network, prepared, config, bar)
    return learnt, None if learnt.learnt else overfit_verdict(learnt.final_loss, learnt.base_loss, learnt.record)


def _data(config: TrainingConfig, folder: Path, progress: TrainingProgress, logged: Exporter | None) -> Prepared:
    with progress.stage("reading and checking the data"):
        prepared = prepare(config, folder / "data", logged)
    checkable.require_of_data(config, prepared)
    progress.warn(prepared.warnings)
    return prepared
