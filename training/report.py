"""report.html: what is known of one version, on one page without a network, the verdict first.

Drawn from the manifest and evaluation.json alone, so that any bundle can be drawn again.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from markupsafe import Markup

from contract.bundle import Bundle
from contract.manifest import Manifest, RegressionOutput
from training.errors import DataError
from training.exporting.results import RESULTS, WITHOUT, ClassMetrics, FeatureSummary, Results
from training.pages import page, plots
from training.pages.forest import Entry, Forest, forest
from training.pages.page import count, number, safe, sentence, words

REPORT = "report.html"

# More of them would be seen by nobody, and make a page that no browser opens quickly.
MOST_CLASSES, MOST_FEATURES, MOST_IMPORTANCES = 30, 32, 20

ENDS = {"patience": "stopped when validation no longer got better", "time limit": "stopped by its time limit"}

Plot = tuple[Markup, str, str]  # SVG, title, explanation


def results_of(bundle: Bundle) -> Results:
    """What was measured of a version. Raises DataError for a bundle from before there was such a file."""
    try:
        return Results.model_validate_json((bundle.path / RESULTS).read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            str(bundle.path), [f"{RESULTS} is missing: {WITHOUT[bundle.manifest.task == 'tensors']}"]
        ) from error


def render(manifest: Manifest, results: Results) -> str:
    """The page as HTML; the same bytes for the same version."""
    return page.render("report.html", _context(manifest, results))


def _context(manifest: Manifest, results: Results) -> dict[str, Any]:
    drawn = _plots(manifest, results)
    verdict = results.verdict
    return {
        "m": manifest,
        "r": results,
        "passed": verdict is None or verdict.passed,
        "verdict": verdict,
        "first_line": first_line(manifest, results),
        "facts": _facts(manifest, results),
        "own_ms": manifest.variant(manifest.chosen.variant).latency["1"].p50 / 1000,
        "training_line": _training_line(results),
        "plots": drawn,
        "positive": getattr(manifest.output, "positive", ""),
        "by_class": _worst_classes(results.by_class),
        "sections": _sections(results, drawn),
        "config": json.dumps(manifest.config, indent=2, ensure_ascii=False),
    }


def first_line(manifest: Manifest, results: Results) -> str:
    """The verdict in one sentence."""
    told, low, high = page.interval(results.metrics[results.headline])
    told = f"{sentence(words(results.headline))} {told} ({low} to {high}) on {count(manifest.data.test_rows)} test rows"
    verdict = results.verdict
    if verdict is None:
        return f"{told}."
    bad = [words(reason.check) for reason in verdict.reasons if not reason.passed]
    if bad:
        return f"{told}; refused for {', '.join(bad)}."
    beside = f"not worse than version {verdict.against}, which serves" if verdict.against else "nothing serves yet"
    return f"{told}; {beside}."


def _facts(manifest: Manifest, results: Results) -> list[tuple[str, str, str]]:
    """(value, what it is, where there is more)."""
    metric, chosen = results.metrics[results.headline], manifest.variant(manifest.chosen.variant)
    facts = [
        (number(metric.value), words(results.headline), "baselines"),
        (count(manifest.data.train_rows), "training rows", "data"),
        (page.seconds(results.training_seconds), "of training", "curves"),
        (page.microseconds(chosen.latency["1"].p50), f"a row, as {chosen.name}", "variants"),
        (page.megabytes(chosen.size), "in that form", "variants"),
        (str(len(results.findings)), f"{_plural('finding', len(results.findings))} of the doctor", "doctor"),
        (str(len(results.warnings)), f"{_plural('warning', len(results.warnings))} about the data", "data"),
    ]
    if results.reliability is not None:
        facts.insert(1, (number(results.reliability.error_after, 3), "calibration error", "quality"))
    if isinstance(manifest.output, RegressionOutput):
        within = f"holds {manifest.output.coverage:.0%} of rows"
        facts.insert(1, (f"± {number(manifest.output.half_width, 3)}", within, "quality"))
    return facts


def _plural(noun: str, number_of: int) -> str:
    return noun if number_of == 1 else f"{noun}s"


def _training_line(results: Results) -> str:
    record = results.record
    if not record.evaluations:
        return "Nothing was recorded."
    best = [each for each in record.evaluations if each.best][-1:]
    kept = f"; the weights of epoch {best[0].epoch:.4g} are kept" if best else ""
    times = len(record.rollbacks)
    back = f"; went back to a checkpoint {'once' if times == 1 else f'{times} times'}" if times else ""
    end = ENDS.get(record.stopped, "ran to its end")
    return f"{record.evaluations[-1].step:,} steps in {page.seconds(results.training_seconds)}, {end}{kept}{back}."


def _plots(manifest: Manifest, results: Results) -> dict[str, Any]:
    return {
        "baselines": _baselines(manifest, results),
        "curves": list(_curves(results)),
        "findings": [
            safe(plots.sparkline(str(i), each.series)) if len(each.series) > 1 else ""
            for i, each in enumerate(results.findings)
        ],
        "quality": list(_quality(manifest, results)),
        "slices": _slices(manifest, results),
        "importance": _importance(results),
        "features": [(each.name, safe(plots.distribution(each))) for each in _shifted(results.features)],
    }


def _baselines(manifest: Manifest, results: Results) -> Forest | None:
    own = results.metrics[results.headline]
    entries = [Entry(f"{manifest.name}/{manifest.version}", own, own=True)]
    entries += [Entry(each.name, each.headline) for each in manifest.baselines if each.headline is not None]
    return forest(entries, mark=own.value) if len(entries) > 1 else None


def _curves(results: Results) -> Iterator[Plot]:
    record = results.record
    metric = words(record.facts.metric if record.facts else results.headline)
    if record.evaluations:
        yield safe(plots.loss(record)), "Loss", "the dot is what was kept"
        yield safe(plots.monitored(record, metric)), sentence(metric), "what stopping goes by"
    if record.range_test:
        chosen = max((each.learning_rate for each in record.probes), default=None)
        yield safe(plots.range_test(record.range_test, chosen)), "Learning rate range test", "a few steps at each rate"
    if len(record.probes) > 1:
        yield safe(plots.learning_rate(record)), "Learning rate", ""
        yield safe(plots.gradients(record)), "Gradients and updates", "updates near a thousandth are usual"


def _quality(manifest: Manifest, results: Results) -> Iterator[Plot]:
    if results.confusion:
        yield _confusion(manifest, results)
    if results.roc:
        yield safe(plots.curves("roc", results.roc, "false positives", "true positives", diagonal=True)), "ROC", ""
    if results.precision_recall:
        yield safe(plots.curves("pr", results.precision_recall, "recall", "precision")), "Precision and recall", ""
    if (found := results.reliability) is not None:
        told = f"error {number(found.error_after, 3)}"
        if found.temperature != 1:
            told += f", {number(found.error_before, 3)} before a temperature of {number(found.temperature, 2)}"
        yield safe(plots.reliability(found)), "Calibration", told
    if (left := results.residuals) is not None:
        told = f"{left.coverage.value:.1%} within the band, {left.wanted_coverage:.0%} wanted"
        half_width = manifest.output.half_width if isinstance(manifest.output, RegressionOutput) else None
        yield safe(plots.residuals(left.points, half_width)), "Residuals", told


def _confusion(manifest: Manifest, results: Results) -> Plot:
    """All classes, or the part of the matrix with those that are most often mistaken."""
    names, matrix = tuple(results.by_class) or getattr(manifest.output, "classes", ()), results.confusion
    if len(names) <= MOST_CLASSES:
        return safe(plots.confusion(matrix, names)), "Confusion", "shades are shares of each true class"
    counts = np.array(matrix)
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    chosen = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
    told = f"the {MOST_CLASSES} of {len(names)} classes that are most often mistaken"
    return safe(plots.confusion(counts[np.ix_(chosen, chosen)].tolist(), [names[i] for i in chosen])), "Confusion", told


def _worst_classes(by_class: dict[str, ClassMetrics]) -> dict[str, ClassMetrics]:
    if len(by_class) <= MOST_CLASSES:
        return by_class
    return dict(sorted(by_class.items(), key=lambda pair: pair[1].f1.value)[:MOST_CLASSES])


def _slices(manifest: Manifest, results: Results) -> Forest | None:
    if not results.slices:
        return None
    own = results.metrics[results.headline]
    parts = [Entry(described(each.where, manifest), each.metric, count(each.rows)) for each in results.slices]
    return forest([Entry("all test rows", own, count(manifest.data.test_rows), own=True), *parts], mark=own.value)


def described(where: dict[str, str], manifest: Manifest) -> str:
    """A slice in words: `distance 719 to 1008, carrier UA`."""
    kinds = {each.name: each.kind for each in manifest.features}
    return ", ".join(_part(feature, kinds.get(feature, "category"), value) for feature, value in where.items())


def _part(feature: str, kind: str, value: str) -> str:
    low, apart, high = value.partition("..")
    of = {"image": " brightness", "text": " length"}.get(kind, "")
    return (
        f"{feature}{of} {float(low):.4g} to {float(high):.4g}" if apart and kind != "category" else f"{feature} {value}"
    )


def _importance(results: Results) -> Forest | None:
    most = sorted(results.importance, key=lambda each: -each.drop.value)[:MOST_IMPORTANCES]
    return forest((Entry(each.feature, each.drop) for each in most), mark=0.0)


def _shifted(features: tuple[FeatureSummary, ...]) -> list[FeatureSummary]:
    """Those that have a distribution; of very many, those whose training and test rows differ most, in their order."""
    drawn = [each for each in features if each.bins]

    def shift(i: int) -> float:
        return sum(abs(one - other) for one, other in zip(drawn[i].train, drawn[i].test, strict=True))

    return [drawn[i] for i in sorted(sorted(range(len(drawn)), key=lambda i: -shift(i))[:MOST_FEATURES])]


def _sections(results: Results, drawn: dict[str, Any]) -> list[tuple[str, str]]:
    wanted = [
        ("verdict", "gate", results.verdict),
        ("baselines", "baselines", True),
        ("curves", "training", True),
        ("doctor", "doctor", True),
        ("quality", "right and wrong", drawn["quality"]),
        ("slices", "slices", drawn["slices"]),
        ("importance", "importance", drawn["importance"]),
        ("features", "inputs", drawn["features"]),
        ("variants", "variants", True),
        ("robustness", "robustness", results.robustness),
        ("data", "data", True),
        ("config", "config", True),
    ]
    return [(key, title) for key, title, there in wanted if there]
