"""What training has made: versions, their age, and how they came into service."""

from deploy.grafana.panels import Json, Row, dashboard, lines
from deploy.grafana.queries import CREATED, LOADED, PREDICTIONS, quantiles, rate, total
from deploy.grafana.versions import versions


def training() -> Json:
    about = "What training has made of the models: versions, their age, and how they came into service."
    return dashboard(
        "training", "Training and versions", about, [], [_who_answers(), (8, [versions()]), _changes(), _shadow()]
    )


def _who_answers() -> Row:
    age = {"{{model}}": f"time() - max by (model) ({CREATED} {LOADED})"}
    by_version = {"{{model}}/{{version}}": total(rate(PREDICTIONS), "model", "version")}
    who = "Production, a canary beside it, versions that are asked for."
    return 8, [
        lines("Age of the newest version", age, "s", "Of those that are loaded."),
        lines("Rows predicted by version", by_version, "rowsps", who, stacked=True),
    ]


def _changes() -> Row:
    def grown(metric: str) -> dict[str, str]:
        return {"{{model}}": f"sum by (model) (increase({metric}[$__rate_interval]))"}

    refused = "Bundles that would not load or prove themselves; the log says why."
    return 8, [
        lines("Put in service", grown("hornpipe_swaps_total"), about="Versions, by each worker of each replica."),
        lines("Refused", grown("hornpipe_refused_bundles_total"), about=refused),
        lines("Graphs traced", grown("hornpipe_traces_total"), about="By TensorFlow; none once a version is warm."),
    ]


def _shadow() -> Row:
    rows = {"{{model}} {{result}}": total(rate("hornpipe_shadow_rows_total"), "model", "result")}
    agreed = "Rows copied to a shadow version: whether it agreed with the answer that was given."
    difference = quantiles("hornpipe_shadow_difference", by=("model",))
    return 8, [
        lines("Shadow", rows, "rowsps", agreed, stacked=True),
        lines("Difference of the shadow", difference, about="Of probabilities, or as a share of the range."),
        lines("Time of the shadow", quantiles("hornpipe_shadow_duration_seconds", by=("model",)), "s"),
    ]
