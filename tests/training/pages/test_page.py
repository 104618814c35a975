"""How numbers and names are written for people, and whether they can be read in the light and in the dark."""

import re
from pathlib import Path

import pytest

from contract.evidence import Metric
from training.pages import page, plots

STYLE = Path("training/pages/style.css").read_text()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0.0000"),
        (0.78696, "0.7870"),
        (1.0, "1.0000"),
        (-0.00004, "-4.0e-05"),
        (1.2e-7, "1.2e-07"),
        (-0.5, "-0.5000"),
        (2.30259, "2.303"),
        (61.5508, "61.55"),
        (-17.907, "-17.91"),
        (43210.4, "43,210"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_have_as_many_digits_as_one_wants_to_read(value: float, written: str) -> None:
    assert page.number(value) == written


@pytest.mark.parametrize(
    ("metric", "written"),
    [
        ((0.7, 0.65, 0.75), ("0.7000", "0.6500", "0.7500")),
        ((61.5508, 55.98, 101.5), ("61.6", "56.0", "101.5")),
        ((0.963, 0.88, 1.0), ("0.9630", "0.8800", "1.0000")),
        ((0.0013, -0.00001, 0.0024), ("0.0013", "0.0000", "0.0024")),
        ((1e-6, -2e-6, 3e-6), ("1.0e-06", "-2.0e-06", "3.0e-06")),
        ((float("nan"), 0.1, 0.2), ("nan", "0.1000", "0.2000")),
    ],
)
def test_a_value_and_its_interval_have_the_same_decimals(
    metric: tuple[float, float, float], written: tuple[str, str, str]
) -> None:
    assert page.interval(Metric(value=metric[0], low=metric[1], high=metric[2])) == written


@pytest.mark.parametrize(
    ("name", "written"),
    [("roc_auc", "ROC AUC"), ("log_loss", "log loss"), ("f1_macro", "F1 macro"), ("r2", "R²"), ("mae", "MAE")],
)
def test_names_of_metrics_are_words(name: str, written: str) -> None:
    assert page.words(name) == written


def test_units_suit_the_size() -> None:
    assert [page.microseconds(each) for each in (26.4, 4659, 12_600)] == ["26 µs", "4,659 µs", "12.6 ms"]
    assert [page.seconds(each) for each in (0.04, 59.9, 122.9)] == ["0.0 s", "59.9 s", "2.0 min"]
    assert [page.megabytes(each) for each in (486_000, 345e6)] == ["0.49 MB", "345 MB"]


def dresses() -> dict[str, dict[str, str]]:
    """The colours of the page by name, in the light and in the dark."""
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
    return {name: dict(re.findall(r"--(\w+): (#\w{6})", block)) for name, block in (("light", light), ("dark", dark))}


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dress", ["light", "dark"])
def test_every_colour_is_there_and_can_be_read(dress: str) -> None:
    colours = dresses()[dress]
    used = set(re.findall(r"var\(--(\w+)\)", STYLE)) | set(plots.COLOURS)

    assert used <= set(colours)
    for ground in ("paper", "card"):
        for name in ("ink", "muted", "accent", "second", "good", "bad", "third"):
            high, low = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground)  # WCAG 2.2, 1.4.3
