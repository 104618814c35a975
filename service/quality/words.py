"""Quality in a few sentences that a person understands."""

import math

from contract.evidence import improvement
from service.quality.quality import Figure, Quality

NAMES = {
    "roc_auc": "ROC AUC",
    "f1_macro": "macro F1",
    "rmse": "root mean squared error",
}


def summary(found: Quality, window: str) -> str:
    """Of a version's rows; `window` says when they were predicted, as `in the last 7 days`."""
    if not found.rows:
        return f"No rows are in the prediction log {window}, so nothing can be said."
    name, figure = next(iter(found.metrics.items()), ("", Figure()))
    said = [_rows(found, window), _realised(name, figure), _estimate(name, figure)]
    return " ".join(filter(None, said))


def _rows(found: Quality, window: str) -> str:
    if not found.labelled:
        return f"None of {found.rows:,} rows predicted {window} has a label yet."
    late = found.label_delay_seconds or 0.0
    share = f"{found.labelled:,} of {found.rows:,} rows predicted {window} have a label ({found.labelled_share:.0%})"
    return f"{share}, half of them within {duration(late)}."


def _realised(name: str, figure: Figure) -> str:
    if figure.value is None or figure.low is None or figure.high is None:
        return ""
    said = f"{NAMES.get(name, name)} is {_number(figure.value)} ({_number(figure.low)} to {_number(figure.high)})"
    if figure.baseline is None or figure.baseline_low is None or figure.baseline_high is None:
        return f"{said}."
    said = f"{said}; on the test rows of training it was {_number(figure.baseline)}"
    better = improvement(name, figure.value, figure.baseline)
    chance = math.hypot(figure.high - figure.low, figure.baseline_high - figure.baseline_low) / 2
    if abs(better) <= chance:
        return f"{said}, which is no more of a difference than chance makes."
    return f"{said}: it has become {'better' if better > 0 else 'worse'}, by more than chance."


def _estimate(name: str, figure: Figure) -> str:
    if figure.estimate is None:
        return ""
    said = f"From the answers alone {_number(figure.estimate)} is to be expected"
    if figure.value is None:
        baseline = f"; on the test rows of training it was {_number(figure.baseline)}" if figure.baseline else ""
        return f"{said} of {NAMES.get(name, name)}{baseline}."
    if figure.error is None or figure.low is None or figure.high is None:
        return f"{said}."
    guess = figure.value + figure.error
    if figure.low <= guess <= figure.high:
        return f"{said}; where labels are known, such an estimate is as good as they can tell."
    way = "too high" if figure.error > 0 else "too low"
    return f"{said}; where labels are known, such an estimate is {_number(abs(figure.error))} {way}."


def duration(seconds: float) -> str:
    """In the largest unit of which there are two."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"


def _number(value: float) -> str:
    return f"{value:.3g}"
