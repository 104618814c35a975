"""Whether estimates without labels are NannyML's where both have the same scores and the same curve.

    python -m benchmarks.quality_nannyml scores models build/scores.npz
    NANNYML_PYTHON -P benchmarks/quality_nannyml.py estimate build/scores.npz
    python -m benchmarks.quality_nannyml compare build/scores.npz

The second is for a Python with nannyml and statsmodels, which need versions of their own.
"""

import json
import sys
from pathlib import Path

import numpy as np

METRICS = ("roc_auc", "f1", "precision", "recall", "accuracy")
THRESHOLD = 0.25  # so that both classes are decided for often
CHUNK = 10_000


def scores(models: Path, out: Path) -> None:
    """Of validation and test rows of the production version of flights, by the service's own code."""
    from contract import bundle, routing, runtimes
    from training import config
    from training.data import prepare

    found = bundle.read_version(models, "flights", routing.read(models, "flights").production)
    runtime = runtimes.load(found, found.manifest.variant(found.manifest.chosen.variant), "cpu")
    prepared = prepare(config.load(Path("examples/flights/train.toml"), []))
    arrays = {}
    for name, part in (("validation", prepared.validation), ("test", prepared.test)):
        places = np.array_split(np.arange(len(part)), max(1, len(part) // 1024))
        arrays[name] = np.concatenate([runtime.run(part.encoded.take(each))["probability"] for each in places])
        arrays[f"{name}_labels"] = part.labels
    np.savez(out, **arrays)


def estimate(path: Path) -> None:
    """NannyML's CBPE, by chunks of the test rows."""
    import nannyml
    import pandas as pd

    found = np.load(path)

    def frame(part: str) -> "pd.DataFrame":
        given = found[part]
        columns = {"p": given.astype(float), "said": (given >= np.float32(THRESHOLD)).astype(int)}
        return pd.DataFrame(columns | {"y": found[f"{part}_labels"].astype(int)})

    names = {"y_pred_proba": "p", "y_pred": "said", "y_true": "y"}
    cbpe = nannyml.CBPE(**names, problem_type="classification_binary", metrics=list(METRICS), chunk_size=CHUNK)
    result = cbpe.fit(frame("validation")).estimate(frame("test")).filter(period="analysis").to_df()
    values = {name: result[name, "value"].tolist() for name in METRICS}
    path.with_suffix(".json").write_text(json.dumps({"version": nannyml.__version__, "values": values}))


def compare(path: Path) -> None:
    """The largest difference of a chunk, with the curve that NannyML fits, and with the one of training."""
    from sklearn.isotonic import IsotonicRegression

    from contract.estimate import estimated
    from training.evaluation.estimation import isotonic

    found, other = np.load(path), json.loads(path.with_suffix(".json").read_text())
    sure, right = found["validation"].astype(float), (found["validation_labels"] == 1).astype(float)
    all_points = IsotonicRegression(out_of_bounds="clip").fit(found["validation"], found["validation_labels"])
    points = isotonic(sure, right)
    curves = {"NannyML's": all_points.predict, "training's": lambda given: np.interp(given.astype(float), *points)}
    for name, curve in curves.items():
        apart = dict.fromkeys(METRICS, 0.0)
        for i, chunk in enumerate(range(0, len(found["test"]) - CHUNK + 1, CHUNK)):
            given = found["test"][chunk : chunk + CHUNK]
            positive = curve(given)
            ours = estimated(np.stack([1 - positive, positive], axis=1), given, THRESHOLD)
            apart = {key: max(each, abs(ours[key] - other["values"][key][i])) for key, each in apart.items()}
        print(f"with {name} curve:", ", ".join(f"{key} {each:.5f}" for key, each in apart.items()))


if __name__ == "__main__":
    what, *paths = sys.argv[1:]
    {"scores": scores, "estimate": estimate, "compare": compare}[what](*map(Path, paths))
