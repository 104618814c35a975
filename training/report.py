"""report.html: what is known of one version, on one page without a network, the verdict first.

Drawn from the manifest and evaluation.json alone, so that any bundle can be drawn again.
"""

import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from contract.bundle import Bundle
from contract.evidence import Metric
from contract.manifest import Manifest, RegressionOutput
from training import plots
from training.errors import DataError
from training.results import RESULTS, Results

REPORT = "report.html"

_NAMES = {word.lower(): word for word in ("ROC", "AUC", "F1", "MAE", "RMSE", "R²", "FGSM", "PGD")} | {"r2": "R²"}

Plot = tuple[Markup, str, str]  # SVG, title, explanation


def results_of(bundle: Bundle) -> Results:
    """What was measured of a version. Raises DataError for a bundle from before there was such a file."""
    try:
        return Results.model_validate_json((bundle.path / RESULTS).read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            str(bundle.path), [f"{RESULTS} is missing: the version was trained before there was one"]
        ) from error


def render(manifest: Manifest, results: Results) -> str:
    """The page as HTML. What comes from data or config is escaped."""
    return environment().get_template("report.html").render(_context(manifest, results))


def environment() -> Environment:
    """Templates of training/pages, with the filters that write numbers for people."""
    made = Environment(
        loader=PackageLoader("training", "pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    made.filters |= {"number": number, "count": count, "words": words, "microseconds": microseconds}
    made.globals["style"] = Markup((files("training") / "pages" / "style.css").read_text())  # noqa: S704  # our own
    return made


def number(value: float, digits: int = 4) -> str:
    """A few digits: 0.7870, 1.2e-07, 43,210."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:,.{digits}f}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.2g}"


def count(value: int) -> str:
    return f"{value:,}"


def words(name: str) -> str:
    """roc_auc -> ROC AUC, log_loss -> log loss."""
    special = {
        "roc": "ROC",
        "auc": "AUC",
        "f1": "F1",
        "mae": "MAE",
        "rmse": "RMSE",
        "r2": "R²",
        "fgsm": "FGSM",
        "pgd": "PGD",
    }
    return " ".join(special.get(word, word) for word in name.split("_"))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def microseconds(value: float) -> str:
    return f"{value:,.0f} µs" if value < 10_000 else f"{value / 1000:,.1f} ms"


def _context(manifest: Manifest, results: Results) -> dict[str, Any]:
    drawn = _plots(manifest, results)
    verdict = results.verdict
    return {
        "m": manifest,
        "r": results,
        "passed": verdict is None or verdict.passed,
        "verdict": verdict,
        "first_line": first_line(manifest, results),
        "simpler": results.simpler,
        "facts": _facts(manifest, results),
        "own_ms": manifest.variant(manifest.chosen.variant).latency["1"].p50 / 1000,
        "training_line": _training_line(results),
        "plots": drawn,
        "sections": _sections(results, drawn),
        "config": json.dumps(manifest.config, indent=2),
    }


def first_line(manifest: Manifest, results: Results) -> str:
    """The verdict in one sentence."""
    metric = results.metrics[results.headline]
    told = f"{words(results.headline)} {number(metric.value)} ({number(metric.low)} to {number(metric.high)})"
    told += f" on {count(manifest.data.test_rows)} held-out rows"
    verdict = results.verdict
    if verdict is None:
        return f"{told}."
    bad = [words(reason.check) for reason in verdict.reasons if not reason.passed]
    if bad:
        return f"{told}; refused for {', '.join(bad)}."
    beside = f"not worse than version {verdict.against}, which serves" if verdict.against else "nothing serves yet"
    return f"{told}; {beside}."


def _facts(manifest: Manifest, results: Results) -> list[tuple[str, str]]:
    metric, chosen = results.metrics[results.headline], manifest.variant(manifest.chosen.variant)
    facts = [
        (number(metric.value), words(results.headline)),
        (count(manifest.data.train_rows), "rows to learn from"),
        (f"{results.training_seconds:,.0f} s", "of training"),
        (microseconds(chosen.latency["1"].p50), f"a row, as {chosen.name}"),
        (f"{chosen.size / 1e6:,.2f} MB", "in that form"),
        (str(len(results.findings)), "findings of the doctor"),
    ]
    if results.reliability is not None:
        facts.insert(1, (number(results.reliability.error_after, 3), "calibration error"))
    if isinstance(manifest.output, RegressionOutput):
        facts.insert(1, (f"± {number(manifest.output.half_width, 3)}", f"holds {manifest.output.coverage:.0%} of rows"))
    return facts


def _training_line(results: Results) -> str:
    record = results.record
    if not record.evaluations:
        return "Nothing was recorded."
    best = [each for each in record.evaluations if each.best][-1:]
    kept = f"; the weights of epoch {best[0].epoch:.2f} are kept" if best else ""
    ends = {"patience": "stopped when validation no longer got better", "time limit": "stopped by its time limit"}
    back = f"; went back to a checkpoint {len(record.rollbacks)} times" if record.rollbacks else ""
    end = ends.get(record.stopped, "ran to its end")
    return f"{record.evaluations[-1].step:,} steps in {results.training_seconds:,.0f} s, {end}{kept}{back}."


def _plots(manifest: Manifest, results: Results) -> dict[str, Any]:
    return {
        "baselines": _baselines(manifest, results),
        "curves": _curves(results),
        "findings": [_svg(plots.sparkline(str(i), each.series)) for i, each in enumerate(results.findings)],
        "quality": _quality(manifest, results),
        "slices": _slices(results),
        "importance": _importance(results),
        "features": [(each.name, each.kind, _svg(plots.distribution(each))) for each in results.features if each.bins],
    }


def _svg(drawn: str) -> Markup:
    return Markup(drawn)  # noqa: S704  # matplotlib's own SVG, which escapes what it writes


def _baselines(manifest: Manifest, results: Results) -> Markup | None:
    rows = {f"{manifest.name}/{manifest.version}": results.metrics[results.headline]}
    rows |= {each.name: each.headline for each in manifest.baselines if each.headline is not None}
    own = next(iter(rows))
    return _svg(plots.intervals("baselines", rows, words(results.headline), highlight=own)) if len(rows) > 1 else None


def _curves(results: Results) -> list[Plot]:
    record, metric = results.record, results.record.facts.metric if results.record.facts else results.headline
    drawn: list[Plot] = []
    if record.evaluations:
        drawn.append((_svg(plots.loss(record)), "Loss", "the dot is what was kept"))
        drawn.append((_svg(plots.monitored(record, metric)), _sentence(words(metric)), "what stopping goes by"))
    if record.range_test:
        chosen = record.probes[0].learning_rate if record.probes else None
        drawn.append((_svg(plots.range_test(record.range_test, chosen)), "Learning rate range test", ""))
    if len(record.probes) > 1:
        drawn.append((_svg(plots.learning_rate(record)), "Learning rate", ""))
        drawn.append((_svg(plots.gradients(record)), "Gradients and updates", "updates near a thousandth are usual"))
    return drawn


def _quality(manifest: Manifest, results: Results) -> list[Plot]:
    drawn: list[Plot] = []
    if results.confusion:
        classes = tuple(results.by_class) or getattr(manifest.output, "classes", ())
        drawn.append((_svg(plots.confusion(results.confusion, classes)), "Confusion", "shares of each true class"))
    if results.roc:
        roc = plots.curves("roc", results.roc, "false positives", "true positives", diagonal=True)
        drawn.append((_svg(roc), "ROC", ""))
    if results.precision_recall:
        drawn.append(
            (_svg(plots.curves("pr", results.precision_recall, "recall", "precision")), "Precision and recall", "")
        )
    if (found := results.reliability) is not None:
        told = f"error {number(found.error_after, 3)}"
        if found.temperature != 1:
            told += f", {number(found.error_before, 3)} before a temperature of {number(found.temperature, 2)}"
        drawn.append((_svg(plots.reliability(found)), "Calibration", told))
    if (left := results.residuals) is not None:
        told = f"{left.coverage.value:.1%} within the interval, {left.wanted_coverage:.0%} wanted"
        drawn.append((_svg(plots.residuals(left.points)), "Residuals", told))
    return drawn


def _slices(results: Results) -> Markup | None:
    if not results.slices:
        return None
    rows: dict[str, Metric] = {"all test rows": results.metrics[results.headline]}
    for each in results.slices:
        name = ", ".join(f"{feature} {value}" for feature, value in each.where.items())
        rows[f"{name} ({each.rows:,})"] = each.metric
    return _svg(plots.intervals("slices", rows, words(results.headline), highlight="all test rows"))


def _importance(results: Results) -> Markup | None:
    rows = {each.feature: each.drop for each in sorted(results.importance, key=lambda each: -each.drop.value)[:20]}
    return _svg(plots.intervals("importance", rows, f"loss of {words(results.headline)}")) if rows else None


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
