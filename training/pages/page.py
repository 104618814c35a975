"""Pages of one file: the templates in training/pages, and how numbers and names are written in them."""

import math
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from contract.evidence import Metric

SPECIAL = {
    "roc": "ROC",
    "auc": "AUC",
    "f1": "F1",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "fgsm": "FGSM",
    "pgd": "PGD",
    "brier": "Brier score",
}


def render(template: str, context: dict[str, Any]) -> str:
    """A page as HTML. What comes from data or config is escaped."""
    return _environment().get_template(template).render(context)


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("training", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "count": count,
        "words": words,
        "sentence": sentence,
        "microseconds": microseconds,
        "megabytes": megabytes,
        "seconds": seconds,
        "interval": interval,
    }
    made.globals["style"] = safe((files("training") / "pages" / "style.css").read_text("utf-8"))
    return made


def safe(drawn: str) -> Markup:
    """Markup of our own making: the style sheet, and SVG of matplotlib, which escapes what it writes."""
    return Markup(drawn)  # noqa: S704  # see the docstring


def number(value: float, digits: int = 4) -> str:
    """`digits` decimals up to 1, as many significant digits above: 0.7870, 56.31, 43,210; 1.2e-07 where all were 0."""
    if not math.isfinite(value):
        return str(value)
    if value and abs(value) < 0.5 * 10**-digits:
        return f"{value:.1e}"
    return _decimals(value, _places(value, digits))


def interval(metric: Metric, digits: int = 4) -> tuple[str, str, str]:
    """Value, low and high, all with as many decimals."""
    values = (metric.value, metric.low, metric.high)
    largest = max(values, key=abs)
    if not all(map(math.isfinite, values)) or 0 < abs(largest) < 10 ** (1 - digits):
        low, middle, high = (number(each, digits) for each in (metric.low, metric.value, metric.high))
        return middle, low, high
    places = _places(largest, digits)
    value, low, high = (_decimals(each, places) for each in values)
    return value, low, high


def _decimals(value: float, places: int) -> str:
    return f"{round(value, places) + 0.0:,.{places}f}"  # no -0.0000


def _places(value: float, digits: int) -> int:
    return digits if abs(value) <= 1 else max(digits - 1 - math.floor(math.log10(abs(value))), 0)


def count(value: int) -> str:
    return f"{value:,}"


def words(name: str) -> str:
    """roc_auc -> ROC AUC, log_loss -> log loss."""
    return " ".join(SPECIAL.get(word, word) for word in name.split("_"))


def sentence(text: str) -> str:
    """With a capital first."""
    return text[:1].upper() + text[1:]


def microseconds(value: float) -> str:
    return f"{value:,.0f} µs" if value < 10_000 else f"{value / 1000:,.1f} ms"


def megabytes(value: float) -> str:
    return f"{value / 1e6:,.2f} MB" if value < 1e8 else f"{value / 1e6:,.0f} MB"


def seconds(value: float) -> str:
    return f"{value:,.1f} s" if value < 60 else f"{value / 60:,.1f} min"
