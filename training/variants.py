"""The executable forms of a model, compared with its float32 SavedModel on test rows, timed, and one of them chosen."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from contract.bundle import VARIANTS
from contract.evidence import improvement
from contract.features import Encoded
from contract.manifest import Choice, GoldenExample, Variant
from contract.proof import largest_difference
from contract.runtimes import LiteRT, Runtime, SavedModel
from training.evaluation import bootstrap
from training.evaluation.metrics import metrics
from training.exporting.conversion import why
from training.exporting.footprint import footprint
from training.exporting.golden import encode
from training.exporting.latency import Latencies, head, latencies
from training.exporting.silence import quiet
from training.judging import margin
from training.judging.answers import finite
from training.rows import Prepared, Rows
from training.sections import TrainingConfig
from training.task import Scores, Task

FLOAT_TOLERANCE = 1e-5
LAST_BITS = 4
BATCH = 4096
MOST_VALUES = 20_000_000
MEMORY_ROWS = 32

REFERENCE = "savedmodel-float32"


def tolerance(prepared: Prepared) -> float:
    """By how much two float32 runtimes may differ, in the output's unit; of numbers that are far from 0 and near each
    other, such as Julian days, a few last bits are more than a share of their range."""
    if prepared.task.name != "regression":
        return FLOAT_TOLERANCE
    labels = prepared.sample.labels
    bits = LAST_BITS * float(np.spacing(np.abs(labels).max()))
    return max(FLOAT_TOLERANCE * float(np.ptp(labels)), bits)


def measure(
    staging: Path, prepared: Prepared, golden: Sequence[GoldenExample], threshold: float, config: TrainingConfig
) -> tuple[list[Variant], dict[str, str]]:
    """Load every variant of a staged bundle as the service will, run it on test rows, and time it.

    One whose headline metric may be worse than the tolerance allows is refused, and stays listed with the reason. One
    that does not even run is removed from the bundle; the second result says why, by name.
    """
    test = _some(prepared.test)
    encoded = Encoded.join([test.encoded, encode(prepared.encoder, [dict(example.row) for example in golden])])
    with quiet():
        trials, failed = _trials(staging, encoded)
        timed = latencies({trial.name: trial.runtime for trial in trials}, encoded)
    measuring = _Measuring(prepared, test, threshold, config, trials[0])
    return [measuring.variant(trial, staging, timed[trial.name]) for trial in trials], failed


class _Trial:
    """One variant, loaded, with its answers to the test rows and the golden rows."""

    def __init__(self, name: str, path: Path, encoded: Encoded) -> None:
        self.name, self.path, self.encoded = name, path, encoded
        self.runtime: Runtime = SavedModel(path, "cpu") if path.is_dir() else LiteRT(path)
        self.answers = run_in_batches(self.runtime, encoded)


def _trials(staging: Path, encoded: Encoded) -> tuple[list[_Trial], dict[str, str]]:
    """The reference, which must run, and whichever of the others do."""
    trials, failed = [_Trial(REFERENCE, staging, encoded)], {}
    for path in sorted((staging / VARIANTS).iterdir()):
        try:
            trials.append(_Trial(path.stem, path, encoded))
        except (RuntimeError, ValueError) as error:  # what both runtimes raise
            failed[path.stem] = why(error)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return trials, failed


class _Measuring:
    """What every variant is measured by."""

    def __init__(
        self, prepared: Prepared, test: Rows, threshold: float, config: TrainingConfig, reference: _Trial
    ) -> None:
        self._task, self._test, self._threshold, self._reference = prepared.task, test, threshold, reference
        self._section, self._config = config.quantization, config
        self._tolerance = tolerance(prepared)

    def variant(self, trial: _Trial, staging: Path, timed: Latencies) -> Variant:
        numbers = finite(trial.answers)
        pair = trial.answers[numbers], self._reference.answers[numbers]
        difference = largest_difference(*pair) if numbers.any() else 0.0
        made = Variant(
            name=trial.name,
            runtime="savedmodel" if trial.path.is_dir() else "litert",
            path=trial.path.relative_to(staging).as_posix(),
            size=size(trial.path),
            largest_difference=difference,
            # Another processor rounds otherwise: twice what was seen on many rows here is still the same model.
            tolerance=max(self._tolerance, 2 * difference),
            metrics={},
            latency=timed,
            memory=footprint(trial.path, head(trial.encoded, MEMORY_ROWS)),
        )
        if not numbers.all():
            wrong = f"{np.count_nonzero(~numbers):,} of {len(numbers):,} answers are not finite"
            return made.model_copy(update={"refused": wrong})
        return made.model_copy(update=self._worth(trial))

    def _worth(self, trial: _Trial) -> dict[str, object]:
        """What the variant's answers are worth, and the reason where that is too little."""
        task, labels, scores = self._task, self._test.labels, trial.answers[: len(self._test)]
        resamples, seed = self._config.evaluation.resamples, self._config.training.seed
        intervals = bootstrap.intervals(task, labels, scores, self._threshold, resamples=resamples, seed=seed)
        return {
            "metrics": metrics(task, labels, scores, self._threshold),
            "intervals": intervals,
            "headline": intervals[task.headline],
            "refused": self._refusal(scores),
        }

    def _refusal(self, scores: Scores) -> str | None:
        """Why a variant may not serve: non-inferiority by the lower end of a paired bootstrap interval."""
        task, labels = self._task, self._test.labels
        theirs = self._reference.answers[: len(labels)]
        gain = bootstrap.paired(task, task.headline, labels, scores, theirs, seed=self._config.training.seed)
        most = self._section.max_metric_drop * margin.unit(task, labels)
        if gain.low >= -most:
            return None
        return f"{task.headline} {gain.value:+.5g} ({gain.low:+.5g} to {gain.high:+.5g}), allowed {-most:.4g}"


def choose(task: Task, variants: Sequence[Variant], failed: Mapping[str, str]) -> Choice:
    """The fastest at one row among those that are not refused; `failed` says which could not be made, and why."""
    reference = next(variant for variant in variants if variant.name == REFERENCE)
    good = [variant for variant in variants if variant.refused is None]
    best = min(good, key=lambda variant: variant.latency["1"].p50)
    refused = [variant.name for variant in variants if variant.refused is not None]
    also = f"; refused: {', '.join(refused)}" if refused else ""
    also += "".join(f"; no {name}: {reason}" for name, reason in failed.items())
    if best is reference:
        return Choice(variant=best.name, why=f"nothing that keeps the {task.headline} is faster{also}")
    speedup = reference.latency["1"].p50 / best.latency["1"].p50
    gain = improvement(task.headline, best.metrics[task.headline], reference.metrics[task.headline])
    costs = f"{task.headline} {'better' if gain >= 0 else 'worse'} by {abs(gain):.5f}"
    return Choice(variant=best.name, why=f"{speedup:.1f} times as fast as {REFERENCE} at one row, {costs}{also}")


def run_in_batches(runtime: Runtime, encoded: Encoded) -> Scores:
    """The answers to all rows, float32 [n] or [n, classes]."""
    starts = range(0, encoded.rows, BATCH)
    return np.concatenate([next(iter(runtime.run(encoded.take(slice(i, i + BATCH))).values())) for i in starts])


def _some(test: Rows) -> Rows:
    """All test rows, or as many as a person wants to wait for, evenly spread."""
    values = sum(int(np.prod(part.shape[1:])) for part in test.encoded.named().values())
    most = max(256, MOST_VALUES // max(values, 1))
    if len(test) <= most:
        return test
    return test.take(np.linspace(0, len(test) - 1, most).astype(np.int64))


def size(path: Path) -> int:
    """Bytes of a file, or of the SavedModel in a folder."""
    if path.is_file():
        return path.stat().st_size
    variables = (path / "variables").rglob("*")
    return sum(file.stat().st_size for file in [path / "saved_model.pb", *variables] if file.is_file())
