"""Two versions of a model side by side, on one page."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contract import bundle
from contract.bundle import Bundle
from contract.evidence import Metric, improvement
from contract.manifest import Manifest
from training.diagnosis.signals import Record
from training.exporting.results import Points, Results
from training.pages import page, plots
from training.pages.forest import Entry, forest
from training.pages.page import microseconds, number, safe, sentence, words
from training.report import Plot, described, results_of

Side = tuple[Manifest, Results]


def compare(models: Path, name: str, first: int, second: int) -> str:
    """The page as HTML. Raises BundleError, or DataError for a version without measurements."""
    sides = [_side(bundle.read_version(models, name, version)) for version in (first, second)]
    return page.render("compare.html", _context(*sides))


def _side(found: Bundle) -> Side:
    return found.manifest, results_of(found)


def _context(first: Side, second: Side) -> dict[str, Any]:
    headline = second[1].headline
    both = [(f"{m.name}/{m.version}", r.metrics[headline]) for m, r in (first, second) if headline in r.metrics]
    verdict = second[0].verdict
    return {
        "first": first[0],
        "second": second[0],
        "headline": headline,
        "forest": forest((Entry(name, metric, own=True) for name, metric in both), mark=both[-1][1].value),
        "first_line": _first_line(first, second),
        "second_passed": verdict is None or verdict.passed,
        "same_data": first[0].data.fingerprint == second[0].data.fingerprint,
        "metrics": list(_metrics(first[1], second[1])),
        "curves": list(_curves(first, second)),
        "facts": list(_facts(first, second)),
        "slices": list(_slices(first, second)),
        "changes": list(_changes("", first[0].config, second[0].config)),
    }


def _first_line(first: Side, second: Side) -> str:
    """Which is better, if that can be said."""
    headline, (one, other) = second[1].headline, (first[1].metrics, second[1].metrics)
    if headline not in one:
        return f"Version {first[0].version} has no {words(headline)}."
    gain = improvement(headline, other[headline].value, one[headline].value)
    if gain == 0:
        return f"Both versions have the same {words(headline)}."
    apart = other[headline].low > one[headline].high or other[headline].high < one[headline].low
    ahead, behind = (second, first) if gain > 0 else (first, second)
    told = f"Version {ahead[0].version} has the better {words(headline)}, by {number(abs(gain))}"
    return f"{told} over {behind[0].version}" + ("." if apart else ", but the intervals overlap.")


def _metrics(first: Results, second: Results) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys([*second.metrics, *first.metrics]):
        one, other = first.metrics.get(name), second.metrics.get(name)
        gain = improvement(name, other.value, one.value) if one and other else 0.0
        told = ("+" if gain > 0 else "") + number(gain) if one and other else ""
        kind = {"+": "yes", "-": "no"}.get(told[:1], "")
        yield {"name": name, "first": one, "second": other, "gain": told, "kind": kind}


def _curves(first: Side, second: Side) -> Iterator[Plot]:
    records = {f"version {m.version}": r.record for m, r in (first, second) if r.record.evaluations}
    if not records:
        return
    facts = second[1].record.facts
    monitored = words(facts.metric if facts else second[1].headline)
    losses, values = _validation(records, "validation_loss"), _validation(records, "monitor")
    yield safe(plots.overlaid("loss", losses, "loss")), "Loss", "on validation rows"
    yield safe(plots.overlaid("monitored", values, monitored)), sentence(monitored), "on validation rows"


def _validation(records: dict[str, Record], name: str) -> dict[str, Points]:
    return {
        version: tuple((float(each.step), float(getattr(each, name))) for each in record.evaluations)
        for version, record in records.items()
    }


def _facts(first: Side, second: Side) -> Iterator[tuple[str, str, str]]:
    columns = [list(_facts_of(*side)) for side in (first, second)]
    for (label, one), (_, other) in zip(*columns, strict=True):
        yield label, one, other


def _facts_of(manifest: Manifest, results: Results) -> Iterator[tuple[str, str]]:
    chosen = manifest.variant(manifest.chosen.variant)
    verdict = manifest.verdict
    yield "verdict", "none" if verdict is None else "may serve" if verdict.passed else "refused"
    yield "serves as", chosen.name
    yield "a row, p50", microseconds(chosen.latency["1"].p50)
    yield "32 rows, p50", microseconds(chosen.latency["32"].p50)
    yield "size", page.megabytes(chosen.size)
    yield "training rows", page.count(manifest.data.train_rows)
    yield "test rows", page.count(manifest.data.test_rows)
    yield "training", page.seconds(results.training_seconds)
    yield "findings of the doctor", _named([each.rule for each in results.findings])
    yield "warnings about the data", _named([each.check for each in results.warnings])
    yield "temperature", number(manifest.temperature, 3)


def _named(names: list[str]) -> str:
    return ", ".join(words(name) for name in dict.fromkeys(names)) or "none"


def _slices(first: Side, second: Side) -> Iterator[tuple[str, Metric, Metric]]:
    others = {tuple(each.where.items()): each.metric for each in first[1].slices}
    for each in second[1].slices:
        if (one := others.get(tuple(each.where.items()))) is not None:
            yield described(each.where, second[0]), one, each.metric


def _changes(prefix: str, one: object, other: object) -> Iterator[tuple[str, str, str]]:
    """Every key that differs, by its full name."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            yield from _changes(f"{prefix}.{key}" if prefix else key, one.get(key), other.get(key))
    elif one != other:
        yield prefix, _shown(one), _shown(other)


def _shown(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
