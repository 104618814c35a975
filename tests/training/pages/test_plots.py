"""Each picture by itself: what it shows can be read out of its SVG."""

import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from training.exporting.results import FeatureSummary, Points, Reliability, ReliabilityBin
from training.pages import plots

CURVE: Points = ((0.0, 0.0), (0.5, 0.8), (1.0, 1.0))


def texts(svg: str) -> list[str]:
    return ["".join(each.itertext()).strip("\u200b") for each in ElementTree.fromstring(svg).iter("text")]


def test_colours_are_the_pages_and_nothing_else_is_left_of_a_file() -> None:
    svg = plots.curves("roc", {"a": CURVE, "b": CURVE}, "x", "y", diagonal=True)
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg))

    assert all(each.startswith("var(--") or each == "none" for each in colours)
    assert set(re.findall(r"var\(--(\w+)\)", svg)) <= set(plots.COLOURS)
    assert not re.search(r"xmlns|http|<style|<metadata|font-family|<\?xml|#[0-9a-f]{6}|width=\"\d+pt", svg)


def test_pictures_do_not_share_ids() -> None:
    drawn = [plots.curves(name, {"a": CURVE}, "x", "y") for name in ("roc", "pr")]
    ids = [re.findall(r'id="([^"]*)"', svg) for svg in drawn]

    assert all(ids)
    assert not set(ids[0]) & set(ids[1])
    for svg, own in zip(drawn, ids, strict=True):
        assert set(re.findall(r'(?:href="|url\()#([^")]*)', svg)) <= set(own)


def test_drawing_leaves_the_settings_of_others_alone() -> None:
    before = dict(mpl.rcParams)
    plots.sparkline("0", CURVE)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    "name", ["日本", "naïve 🙂", "$\\frac{1", "a_b^c", "tab\there\nthere", "\x00\x1b[31mred", "--"]
)
def test_any_name_can_be_drawn(name: str) -> None:
    seen = " ".join(re.sub(r"[\x00-\x1f]", " ", name).split())

    assert texts(plots.confusion([[1, 2], [3, 4]], [name, "other"])).count(seen) == 2
    assert seen in texts(plots.curves("roc", {name: CURVE, "other": CURVE}, "x", "y"))
    summary = FeatureSummary(name=name, kind="category", bins=("=a",), train=(1,), test=(1,))
    assert "a" in texts(plots.distribution(summary))


def test_confusion_counts_rows_and_shares_of_true_classes() -> None:
    found = texts(plots.confusion([[30, 10], [0, 0]], ["no", "yes"]))

    assert found[:4] == ["no", "yes", "predicted", "no"]
    # matplotlib writes the lines of a text one by one
    assert found[found.index("true") + 1 :] == ["75%", "30", "25%", "10", "0%", "0", "0%", "0"]


def test_many_classes_have_counts_only_and_none_where_nothing_was_confused() -> None:
    matrix = np.diag(np.arange(1, 9) * 3000)
    matrix[0, 3] = 7
    found = texts(plots.confusion(matrix.tolist(), [f"class {i}" for i in range(8)]))

    assert sorted(found[found.index("true") + 1 :]) == sorted(
        ["3000", "6000", "9000", "12k", "15k", "18k", "21k", "24k", "7"]
    )


def test_of_many_classes_the_worst_have_names() -> None:
    lines = {f"c{i}": ((0.0, 0.0), (0.5, 1 - i / 20), (1.0, 1.0)) for i in range(12)}
    found = texts(plots.curves("roc", lines, "x", "y"))

    assert [each for each in found if re.fullmatch(r"c\d+", each)] == ["c7", "c8", "c9", "c10", "c11"]
    assert "the worst of 12" in found


def test_calibration_before_is_drawn_only_where_the_temperature_changed_something() -> None:
    bins = (ReliabilityBin(predicted=0.4, observed=0.5, rows=10),)
    for temperature, legend in ((1.0, set()), (1.3, {"before", "calibrated"})):
        found = Reliability(temperature=temperature, before=bins, after=bins, error_before=0.1, error_after=0.1)
        assert set(texts(plots.reliability(found))) & {"before", "calibrated"} == legend


@pytest.mark.parametrize(
    ("bins", "shown"),
    [
        (("1.0..2.5", "2.5..1018.8", "1018.8..20000.0"), ["1", "2.5", "2e+04"]),
        (("below", "0.0..1.0", "1.0..2.0", "missing"), ["below", "1", "missing"]),
        (("=a", "=b..c", "=a category with a long name"), ["a", "b..c", "a categ…"]),
        (("=only",), ["only"]),
        (("0.0..1.0",), ["0"]),
        (("0.0..1.0", "non_finite"), ["0", "non fin…"]),
    ],
)
def test_distributions_name_their_ends(bins: tuple[str, ...], shown: list[str]) -> None:
    shares = (1 / len(bins),) * len(bins)
    summary = FeatureSummary(name="f", kind="number", bins=bins, train=shares, test=shares)
    assert texts(plots.distribution(summary)) == shown


def test_the_evidence_of_a_finding_shows_its_range_whatever_is_in_it() -> None:
    assert texts(plots.sparkline("0", ((10, 0.5), (20, float("nan")), (30, 2.0)))) == ["10", "30", "0.5", "2"]
    assert texts(plots.sparkline("0", ((10, 0.5), (10, 0.5)))) == ["10", "0.5"]
    assert texts(plots.sparkline("0", ())) == []
