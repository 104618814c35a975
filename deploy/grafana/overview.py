"""All models at a glance."""

from deploy.grafana.panels import (
    BY_DRIFT,
    BY_FAILURES,
    NONE_IS_BAD,
    NONE_IS_GOOD,
    Json,
    Row,
    dashboard,
    lines,
    number,
    table,
)
from deploy.grafana.queries import (
    ALARM,
    ERROR,
    FLOORS,
    LABELS,
    LOADED,
    NOT_OK,
    OF_MODELS,
    OK,
    PREDICTIONS,
    REQUESTS,
    drift,
    quantiles,
    rate,
    total,
)
from deploy.grafana.versions import versions

COUNT = f"{REQUESTS}_count"


def overview() -> Json:
    about = "All models: traffic, errors, latency, queues, drift and alerts."
    return dashboard("overview", "Overview", about, [], [_numbers(), _requests(), _limits(), (8, [_drift()]), _lists()])


def _numbers() -> Row:
    (p99,) = quantiles(REQUESTS, OF_MODELS, OK, of=(0.99,)).values()
    failed = f"{total(rate(COUNT, ERROR))} / ({total(rate(COUNT))} > 0)"
    return 4, [
        number("Models", "count(count by (model) (hornpipe_model_info))", steps=NONE_IS_BAD),
        number("Requests a second", total(rate(COUNT)), "reqps", none="0"),
        number("Failed", failed, "percentunit", "Requests that ended in a server error.", steps=BY_FAILURES),
        number("p99", p99, "s", "Of answers to requests of models."),
        number("Rows waiting", "sum(hornpipe_queue_rows)"),
        number("Alerts", 'count(ALERTS{alertstate="firing"}) or vector(0)', steps=NONE_IS_GOOD),
    ]


def _requests() -> Row:
    wrong = "Requests that were invalid, turned away, given up by the client, or that failed."
    latency = "Of answers, from the request's head until the answer is handed to the socket."
    return 8, [
        lines("Requests a second", {"{{model}}": total(rate(COUNT, OF_MODELS), "model")}, "reqps"),
        lines(
            "Not answered", {"{{model}} {{outcome}}": total(rate(COUNT, NOT_OK), "model", "outcome")}, "reqps", wrong
        ),
        lines("Latency", quantiles(REQUESTS, OF_MODELS, OK, by=("model",)), "s", latency),
    ]


def _limits() -> Row:
    turned_away = {"{{model}} {{reason}}": total(rate("hornpipe_rejected_total"), "model", "reason")}
    return 8, [
        lines("Rows waiting or running", {"{{model}}": "sum by (model) (hornpipe_queue_rows)"}),
        lines("Turned away", turned_away, "reqps", "For a limit: more waits than may, or than could run in time."),
        lines("Rows predicted", {"{{model}}/{{version}}": total(rate(PREDICTIONS), "model", "version")}, "rowsps"),
    ]


def _drift() -> Json:
    worst = {
        f"{of}s {window}": f"max by (model, version) ({drift(of, window)} {LOADED})"
        for of in LABELS
        for window in FLOORS
    }
    about = f"The worst feature and output of each version, over an hour, a day and a week. {ALARM}"
    return table("Drift", worst, ("model", "version"), about, steps=BY_DRIFT)


def _lists() -> Row:
    by = ("alertname", "severity", "alertstate", "model", "feature")
    about = "What rings, and what will if it goes on. docs/monitoring.md says what each means, and what to do."
    return 8, [table("Alerts", {"how many": f"count by ({', '.join(by)}) (ALERTS)"}, by, about), versions()]
