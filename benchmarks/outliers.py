"""How well strange rows are told from usual ones: `python -m benchmarks.outliers [CASE ...]`.

Four ways of telling, all fitted to the same training rows: histograms alone (HBOS: Goldstein and Dengel, 2012) with the
logarithms of the categories' shares; the Mahalanobis distance of standardised numbers with the same logarithms; an
isolation forest (scikit-learn's), as what a library has; and what Hornpipe does. Half of the held-out rows stay as they
are, the other half is changed; a number is the AUROC between them: 0.5 is chance, 1 is without a mistake. Tables are
seen by their features, pictures by what is measured of them. The last column is the share of changed rows that are
stranger than 99% of training rows.

Writes benchmarks/OUTLIERS.md. The networks that are attacked are small ones, trained here in a minute.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.ndimage import zoom
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from benchmarks import outlier_shifts as shifts
from contract import histogram
from contract.encoded import Encoded
from contract.histogram import InputCounter
from contract.kinds import ImageFeature
from contract.manifest import DriftBaseline
from contract.outlier import OutlierScorer
from training import config, pipeline
from training.data import prepare
from training.evaluation.adversarial import attackable
from training.exporting import outliers
from training.exporting.outliers import Columns
from training.loop.run import Run
from training.progress import TrainingProgress
from training.rows import Prepared
from training.sections import TrainingConfig

REPORT = Path(__file__).with_name("OUTLIERS.md")
MOST_ROWS = 10_000
MOST_ATTACKED = 2000
QUICK = {"epochs": 8, "evaluations_per_epoch": 1, "patience": 8}

Floats = NDArray[np.float64]
Score = Callable[[Columns], Floats]


@dataclass(frozen=True)
class Watched:
    """What is seen of the rows of one model."""

    prepared: Prepared
    drift: DriftBaseline

    @classmethod
    def of(cls, prepared: Prepared) -> "Watched":
        encoder, rows = prepared.encoder, prepared.sample.encoded
        inputs = histogram.fit_inputs(encoder, rows) | histogram.fit_statistics(encoder, rows, {})
        return cls(prepared, DriftBaseline(rows=rows.rows, inputs=inputs, outputs={}, labels={}))

    def columns(self, encoded: Encoded) -> Columns:
        counter = InputCounter.of(self.prepared.encoder, self.drift.inputs)
        numbers, codes, measured = counter.columns(encoded)
        names = (*counter.names[: numbers.shape[1]], *counter.statistics.labels)
        sizes = {each.name: 2 + len(each.vocabulary) for each in self.prepared.encoder.category_features}
        return Columns(names, np.concatenate([numbers, measured], axis=1), sizes, codes)


def histograms(train: Columns) -> Score:
    scorer = _scorer(train, alone=True)
    return lambda rows: scorer.scores(rows.numbers, rows.codes)


def mahalanobis(train: Columns) -> Score:
    """Of numbers by their medians and the range of the middle nine tenths, missing ones at the median."""
    middle = np.nanmedian(train.numbers, axis=0)
    low, high = np.nanquantile(train.numbers, [0.05, 0.95], axis=0)
    width = np.where(high > low, high - low, np.maximum(np.nanstd(train.numbers, axis=0), 1e-6))

    def standard(rows: Columns) -> Floats:
        return np.clip(np.nan_to_num((rows.numbers - middle) / width, nan=0.0), -10, 10).astype(np.float64)

    known = standard(train)
    centre, covariance = known.mean(axis=0), np.atleast_2d(np.cov(known.T))
    precision = np.linalg.inv(covariance + 1e-4 * np.eye(len(covariance)))
    rarity = [
        -np.log((np.bincount(codes, minlength=size) + 0.5) / (len(codes) + 1))
        for size, codes in zip(train.categories.values(), train.codes.T, strict=True)
    ]

    def score(rows: Columns) -> Floats:
        rest = standard(rows) - centre
        distances = np.einsum("ij,jk,ik->i", rest, precision, rest) / 2
        return distances + sum(table[codes] for table, codes in zip(rarity, rows.codes.T, strict=True))

    return score


def forest(train: Columns) -> Score:
    middle = np.nan_to_num(np.nanmedian(train.numbers, axis=0))

    def matrix(rows: Columns) -> Floats:
        missing = np.isnan(rows.numbers)
        return np.hstack([np.where(missing, middle, rows.numbers), missing, rows.codes]).astype(np.float64)

    fitted = IsolationForest(n_estimators=200, random_state=0).fit(matrix(train))
    return lambda rows: -fitted.score_samples(matrix(rows))


def ours(train: Columns) -> Score:
    scorer = _scorer(train)
    return lambda rows: scorer.scores(rows.numbers, rows.codes)


WAYS: dict[str, Callable[[Columns], Score]] = {
    "histograms": histograms,
    "Mahalanobis": mahalanobis,
    "isolation forest": forest,
    "Hornpipe": ours,
}


def _scorer(train: Columns, *, alone: bool = False) -> OutlierScorer:
    fitted = outliers.fit(train, seed=0)
    assert fitted is not None
    if alone:
        fitted = fitted.model_copy(update={"whitening": (), "means": ()})
    return OutlierScorer(fitted, train.names, tuple(train.categories))


@dataclass(frozen=True)
class Case:
    """Rows as they are, and rows as they came to be, by the name of what was done to them."""

    name: str
    watched: Watched
    usual: Encoded
    changed: dict[str, Encoded]


def table(case: Case) -> Iterator[str]:
    """A section of the report."""
    train, usual = case.watched.columns(case.watched.prepared.sample.encoded), case.watched.columns(case.usual)
    ways = {name: way(train) for name, way in WAYS.items()}
    scorer = _scorer(train)
    yield (
        f"## {case.name}\n\n| what came | "
        + " | ".join(ways)
        + " | beyond 99% |\n| --- |"
        + " ---: |" * (len(ways) + 1)
    )
    aurocs = []
    for name, encoded in case.changed.items():
        rows = case.watched.columns(encoded)
        aurocs.append([auroc(way(usual), way(rows)) for way in ways.values()])
        beyond = (scorer.shares(rows.numbers, rows.codes) > 0.99).mean()
        yield f"| {name} | " + " | ".join(f"{each:.3f}" for each in aurocs[-1]) + f" | {beyond:.0%} |"
    yield "| **mean** | " + " | ".join(f"**{each:.3f}**" for each in np.mean(aurocs, axis=0)) + " | |"
    shares = scorer.shares(usual.numbers, usual.codes)
    flagged = ", ".join(f"{(shares > bound).mean():.2%} beyond {bound:.1%}" for bound in (0.9, 0.99, 0.999))
    yield f"\nOf {len(shares):,} usual rows {flagged}. {costs(scorer, usual)}\n"


def auroc(usual: Floats, strange: Floats) -> float:
    labels = np.repeat([0, 1], [len(usual), len(strange)])
    return float(roc_auc_score(labels, np.concatenate([usual, strange])))


def costs(scorer: OutlierScorer, rows: Columns) -> str:
    """Microseconds of processor time a row: the best of several rounds, as other programs run here too."""
    said = []
    for count in (1, 32, 512):
        some = rows.take(np.arange(count) % len(rows.numbers))
        rounds = []
        for _ in range(7):
            began = time.process_time()
            for _ in range(100):
                scorer.shares(some.numbers, some.codes)
            rounds.append((time.process_time() - began) / 100 / count * 1e6)
        said.append(f"{min(rounds):.2f}" if count > 1 else f"{min(rounds):.0f}")
    return f"Microseconds a row: {said[0]} alone, {said[1]} of 32, {said[2]} of 512."


def flights() -> Iterator[Case]:
    """A random split, so that only what is done to them makes rows strange; then the split by time, month by month."""
    checked = config.load(
        Path("examples/flights/random.toml"),
        ["training.epochs=1", "model.members=1", "model.hidden=[64, 32]", "training.evaluations_per_epoch=1"],
    )
    prepared = prepare(checked)
    usual, other = shifts.limited(prepared, MOST_ROWS)
    changed = dict(shifts.of_table(other.encoded, prepared.encoder, prepared.sample.encoded))
    changed |= dict(shifts.of_flights(other.encoded, prepared.encoder))
    attacks = dict(attacked(prepared, checked, other))
    yield Case("Flights: learnt and held out at random", Watched.of(prepared), usual.encoded, changed | attacks)
    yield months()
    yield months(without="month")


def months(without: str = "") -> Case:
    checked = config.load(Path("examples/flights/train.toml"), [])
    if without:
        features = {name: each for name, each in checked.features.items() if name != without}
        checked = checked.model_copy(update={"features": features})
    prepared = prepare(checked)
    # Training rows that the score has not seen are as usual as can be.
    order = np.random.default_rng(0).permutation(len(prepared.sample))
    usual, learnt = prepared.sample.take(order[:MOST_ROWS]), prepared.sample.take(order[MOST_ROWS:])
    parts = {"the rest of August": prepared.validation.encoded}
    quarter = len(prepared.test) // 4
    for i, month in enumerate(("about September", "about October", "about November", "about December")):
        parts[month] = prepared.test.encoded.take(slice(i * quarter, (i + 1) * quarter))
    watched = Watched.of(Prepared(**{**vars(prepared), "sample": learnt}))
    title = "Flights: learnt January to August" + (f", {without} not among the features" if without else "")
    return Case(title, watched, usual.encoded, parts)


def cancer() -> Iterator[Case]:
    data = load_breast_cancer()
    label = np.where(data.target == 1, "benign", "malignant")
    arrays = {"x": data.data.astype(np.float32), "label": label}
    split = {"by": "random", "validation": 0.1, "test": 0.4}
    target = {"target": "label", "positive": "malignant"}
    prepared, checked = _of_arrays("cancer", arrays, target, split, {"x": "number"}, QUICK | {"epochs": 30})
    usual, other = shifts.limited(prepared, MOST_ROWS)
    changed = dict(shifts.of_table(other.encoded, prepared.encoder, prepared.sample.encoded))
    changed |= dict(attacked(prepared, checked, other))
    yield Case("Breast cancer: 30 numbers, 284 training rows", Watched.of(prepared), usual.encoded, changed)


def digits() -> Iterator[Case]:
    data = load_digits()
    enlarged = np.clip(np.stack([zoom(each / 16, 3.5, order=1) for each in data.images]), 0, 1)
    for name, images in (("8 x 8", data.images), ("enlarged to 28 x 28", enlarged)):
        arrays = {"image": images.astype(np.float32), "digit": data.target}
        split = {"by": "order", "validation": 0.05, "test": 0.5003}
        training = QUICK | {"batch_size": 64, "learning_rate": 3e-3, "averaging": 0.9}
        model = {"preset": "image"}
        prepared, checked = _of_arrays(
            "digits", arrays, {"target": "digit"}, split, {"image": "image"}, training, model
        )
        usual, other = shifts.limited(prepared, MOST_ROWS)
        feature = next(each for each in prepared.encoder.features if isinstance(each, ImageFeature))
        changed = dict(shifts.of_pictures(other.encoded, feature.minimum, feature.maximum))
        changed |= dict(attacked(prepared, checked, other))
        yield Case(f"Digits of other writers, {name}", Watched.of(prepared), usual.encoded, changed)


def _of_arrays(name, arrays, target, split, features, training, model=None) -> tuple[Prepared, TrainingConfig]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        np.savez(path, **arrays)
        task = "binary" if "positive" in target else "multiclass"
        known = {"name": name, "task": task, "data": {"path": str(path)} | target, "split": split, "features": features}
        checked = config.parse(known | {"training": training, "model": model or {"members": 1}})
        return prepare(checked), checked


def attacked(prepared: Prepared, checked: TrainingConfig, rows) -> Iterator[tuple[str, Encoded]]:
    """With what the attack does to the accuracy, in the name."""
    network = pipeline.build(prepared, checked)
    with TemporaryDirectory() as folder, Run.open(Path(folder), checked) as run:
        pipeline.train(network, prepared, checked, run, TrainingProgress(Console(quiet=True)))
    some = rows.take(slice(0, MOST_ATTACKED))
    before = _accuracy(network, some.encoded, some.labels)
    for name, encoded in shifts.attacked(network, prepared, checked, some):
        after = _accuracy(network, encoded, some.labels)
        yield f"{name}: accuracy {before:.0%} to {after:.0%}", encoded


def _accuracy(network: keras.Model, encoded: Encoded, labels) -> float:
    split = attackable(network)
    inputs = {name: keras.ops.convert_to_tensor(getattr(encoded, name)) for name in split.network.input}
    logits = keras.ops.convert_to_numpy(split.network(split.prepare(inputs, False), training=False))
    guessed = logits.argmax(axis=1) if logits.ndim == 2 else logits >= 0
    return float((guessed == labels).mean())


CASES = {"flights": flights, "cancer": cancer, "digits": digits}


def main(names: list[str]) -> None:
    """Run cases, print their tables, and write them down when all were run."""
    text = []
    for name in names or CASES:
        for case in CASES[name]():
            for line in table(case):
                print(line, flush=True)
                text.append(line)
    if not names:
        REPORT.write_text(INTRODUCTION + "\n".join(text), encoding="utf-8")


INTRODUCTION = """# How well strange rows are told from usual ones

Made by `python -m benchmarks.outliers`, whose first lines say how. AUROC: 0.5 is chance, 1 is without a mistake.

"""

if __name__ == "__main__":
    main(sys.argv[1:])
