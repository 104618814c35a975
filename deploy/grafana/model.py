"""One version of a model: what it is asked, what it answers, and whether it is still right."""

from deploy.grafana.panels import BY_DRIFT, Json, Row, bars, choice, dashboard, heat, lines, section, table, variable
from deploy.grafana.queries import (
    ALARM,
    FLOORS,
    LABELS,
    MODEL,
    OK,
    PREDICTIONS,
    REQUESTS,
    VERSION,
    distribution,
    drift,
    le,
    quantiles,
    rate,
    share,
    total,
)

STAGES = "hornpipe_stage_duration_seconds"
BATCH = "hornpipe_batch_rows"


def model() -> Json:
    about = "One version of a model: what it is asked, what it answers, and whether it is still right."
    traffic = [section("Traffic, of all versions"), _requests(), _runs()]
    inputs = [section("What comes in"), _drift_of_inputs(), (9, [_features()]), _distribution("input")]
    outputs = [section("What goes out"), _answers(), _distribution("output")]
    right = [section("Was it right?"), _quality(), _labels()]
    return dashboard("model", "Model", about, _variables(), [*traffic, *right, *inputs, *outputs])


def _variables() -> list[Json]:
    def chosen(of: str) -> Json:
        query = f"label_values(hornpipe_{of}_baseline_ratio{{{VERSION}}}, {LABELS[of]})"
        return variable(LABELS[of], f"{LABELS[of].capitalize()}s", query, several=True)

    return [
        variable("model", "Model", "label_values(hornpipe_model_info, model)"),
        variable("version", "Version", f"label_values(hornpipe_baseline_rows{{{MODEL}}}, version)", sort=4),
        choice("window", "Distributions over", tuple(FLOORS)),
        variable("metric", "Quality", f"label_values(hornpipe_quality_baseline{{{VERSION}}}, metric)"),
        chosen("input"),
        chosen("output"),
    ]


def _requests() -> Row:
    mean = f"{total(rate(f'{STAGES}_sum', MODEL), 'stage')} / {total(rate(f'{STAGES}_count', MODEL), 'stage')}"
    not_sums = "These do not add up: the slowest in one stage need not be the slowest in another."
    outcomes = {"{{outcome}}": total(rate(f"{REQUESTS}_count", MODEL), "outcome")}
    return 8, [
        lines("Requests a second", outcomes, "reqps", stacked=True),
        lines("Latency", quantiles(REQUESTS, MODEL, OK, of=(0.5, 0.9, 0.99)), "s", "Of answers."),
        lines("Time by stage", {"{{stage}}": mean}, "s", "Mean seconds of a request in each stage.", stacked=True),
        lines("p99 by stage", quantiles(STAGES, MODEL, by=("stage",), of=(0.99,)), "s", not_sums),
    ]


def _runs() -> Row:
    return 7, [
        lines("Rows in a run", quantiles(BATCH, MODEL), about="Of requests that arrive together."),
        lines("Rows waiting or running", {"rows": f"sum(hornpipe_queue_rows{{{MODEL}}})"}),
        lines("Turned away", {"{{reason}}": total(rate("hornpipe_rejected_total", MODEL), "reason")}, "reqps"),
        lines("Requests by route", {"{{route}}": total(rate(f"{REQUESTS}_count", MODEL), "route")}, "reqps"),
    ]


def _quality() -> Row:
    where = f'{VERSION},metric="$metric"'
    shown = {"low": "_low", "high": "_high", "realised": "", "estimated": "_estimate", "test rows": "_baseline"}
    over_time = {legend: f"max(hornpipe_quality{name}{{{where}}})" for legend, name in shown.items()}
    about = "Of labelled rows with its 95% interval; estimated without labels; and of the test rows of training."
    error = {"{{metric}}": f"max by (metric) (hornpipe_quality_estimate_error{{{VERSION}}})"}
    off = "How far the estimate is off, of the rows that have labels."
    return 9, [
        lines("$metric", over_time, about=about, least=None, band=("low", "high")),
        _qualities(),
        lines("Estimated less realised", error, about=off, least=None),
    ]


def _qualities() -> Json:
    shown = {"realised": "", "from": "_low", "to": "_high", "estimated": "_estimate", "test rows": "_baseline"}
    columns = {title: f"max by (metric) (hornpipe_quality{name}{{{VERSION}}})" for title, name in shown.items()}
    about = "As of now. Realised of rows that have labels, with its 95% interval; nothing until some have come."
    return table("Quality", columns, ("metric",), about, decimals=3)


def _labels() -> Row:
    rows = {
        "with labels": f"max(hornpipe_quality_rows{{{VERSION}}})",
        "estimated": f"max(hornpipe_quality_estimate_rows{{{VERSION}}})",
    }
    labels, logged = (
        {"{{result}}": total(rate(metric, MODEL), "result")}
        for metric in ("hornpipe_feedback_total", "hornpipe_prediction_log_rows_total")
    )
    return 7, [
        lines("Rows that quality is of", rows),
        lines("Labels that came", labels, "rowsps", "New ones, corrections, and those that fit no prediction."),
        lines("Prediction log", logged, "rowsps", "Rows that were written, or lost and why."),
    ]


def _drift_of_inputs() -> Row:
    """And how many rows look strange: of what training has seen, one in a hundred is stranger than 99%."""
    buckets, count = "hornpipe_outlier_score_bucket", total(rate("hornpipe_outlier_score_count", VERSION))
    stranger = {
        f"than {100 * share:g}%": f"1 - {total(rate(buckets, VERSION, le(share)))} / ({count} > 0)"
        for share in (0.95, 0.99, 0.999)
    }
    about = "Share of rows that are stranger than so much of the training rows: 5%, 1% and 0.1% of those."
    strange = lines("Stranger", stranger, "percentunit", about)
    return 11, [*(_heat("input", window) for window in ("1h", "24h")), strange]


def _heat(of: str, window: str) -> Json:
    label = LABELS[of]
    query = f"max by ({label}) ({drift(of, window, VERSION)})"
    return heat(f"Drift of {of}s over {window}", query, f"{{{{{label}}}}}", BY_DRIFT, ALARM)


def _features() -> Json:
    """What of each feature there is to be said, as of now."""
    shares = {"missing": share("missing"), "unseen": share("unseen"), "outside": share("below|above")}
    rows = f"max by (feature) (model_version_feature:hornpipe_input_rows:increase$window{{{VERSION}}})"
    drifts = {window: f"max by (feature) ({drift('input', window, VERSION)})" for window in FLOORS}
    units = dict.fromkeys(shares, "percentunit") | {"rows": "short"}
    about = f"{ALARM} Shares and rows are of the window chosen above; outside is below or above the training range."
    return table("Features", {**drifts, **shares, "rows": rows}, ("feature",), about, units=units, steps=BY_DRIFT)


def _distribution(of: str) -> Row:
    return 8, [bars(f"${LABELS[of]}", distribution(of), x="bin", order="at", repeat=LABELS[of])]


def _answers() -> Row:
    labels = total(rate(PREDICTIONS, VERSION), "label")
    shares = {"{{label}}": f"{labels} / on () group_left () {total(rate(PREDICTIONS, VERSION))}"}
    score = quantiles("hornpipe_prediction_score", VERSION, of=(0.1, 0.5, 0.9))
    return 8, [
        _heat("output", "1h"),
        lines("Labels", shares, "percentunit", "Share of the rows that got each label.", stacked=True),
        lines("Score", score, about="The probability, the largest probability, or the value.", least=None),
    ]
