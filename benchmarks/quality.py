"""Accuracy on scikit-learn's breast cancer, repeated 5-fold cross-validation: `python -m benchmarks.quality [REPEATS]`.

Each fold is a run of the real loop: four fifths train (a tenth of all rows decides when to stop), one fifth tests.
Beside it a logistic regression on the same folds.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

VALIDATION = 0.1
TRAINING = {"epochs": 40, "batch_size": 32, "evaluations_per_epoch": 1, "patience": 12}


def main(repeats: int) -> None:
    """Print the mean accuracy and its standard deviation over folds, of both."""
    data = load_breast_cancer()
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=repeats, random_state=0)
    ours, theirs = [], []
    for train, test in folds.split(data.data, data.target):
        ours.append(accuracy(data.data, data.target, train, test))
        other = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.data[train], data.target[train])
        theirs.append(float(other.score(data.data[test], data.target[test])))
        print(f"{len(ours):3} folds: {np.mean(ours):.4f}, logistic regression {np.mean(theirs):.4f}", flush=True)
    print(f"Hornpipe {np.mean(ours):.4f} (sd {np.std(ours):.4f}), logistic regression {np.mean(theirs):.4f}")


def accuracy(x: NDArray[np.float64], y: NDArray[np.int64], train: NDArray[np.int64], test: NDArray[np.int64]) -> float:
    """Of a network trained on some rows, on others; the split is by order, so the file has them in it."""
    from rich.console import Console

    from training import config, fit, pipeline
    from training.data import prepare
    from training.loop.run import Run
    from training.progress import TrainingProgress

    order = np.concatenate([np.random.default_rng(0).permutation(train), test])
    with TemporaryDirectory() as name:
        path = Path(name) / "data.npz"
        np.savez(path, x=x[order].astype(np.float32), label=np.where(y[order] == 1, "benign", "malignant"))
        checked = config.parse(
            {
                "name": "cancer",
                "data": {"path": str(path), "target": "label", "positive": "malignant"},
                "split": {"by": "order", "validation": VALIDATION, "test": len(test) / len(order)},
                "features": {"x": "number"},
                "training": TRAINING,
            }
        )
        prepared = prepare(checked)
        network = pipeline.build(prepared, checked)
        with Run.open(Path(name) / "runs", checked) as run:
            pipeline.train(network, prepared, checked, run, TrainingProgress(Console(quiet=True)))
    logits = fit.predict(network, prepared.test.encoded)
    return float(((logits >= 0) == (prepared.test.labels == 1)).mean())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
