"""What training does and has made: jobs, versions, their age, and how they came into service."""

from deploy.grafana.panels import (
    NONE_IS_GOOD,
    Json,
    Row,
    Steps,
    dashboard,
    lines,
    number,
    section,
    table,
)
from deploy.grafana.queries import CREATED, LOADED, PREDICTIONS, quantiles, rate, total
from deploy.grafana.versions import versions

JOBS_ENDED = "(hornpipe_job_ended_total > 0)"
# Of jobs in a row: where HornpipeJobsFailing, ...DataRefused, ...Refused and ...NothingNew ring.
FAILING = 2
DATA_REFUSED = 1
REFUSED = 3
NOTHING_NEW = 7
BY_WAITING: Steps = ((None, "green"), (300, "yellow"), (6 * 3600, "red"))


def training() -> Json:
    about = "Retraining jobs, and what they have made of the models: versions, their age, how they came into service."
    jobs = [section("Jobs"), _jobs(), _getting_on(), (8, [_outcomes()])]
    made = [section("Versions"), _who_answers(), (8, [versions()]), _changes(), _shadow()]
    return dashboard("training", "Training and versions", about, [], [*jobs, *made])


def _jobs() -> Row:
    waits = "Of those that may begin; jobs for later, as after quiet hours or a failure, do not count."
    unread = "Of what is told here; it is read every two seconds."
    return 4, [
        number("Running", 'max(hornpipe_jobs{state="running"})'),
        number("Queued", 'max(hornpipe_jobs{state="queued"})'),
        number("The oldest waits for", "max(hornpipe_job_queued_seconds)", "s", waits, steps=BY_WAITING),
        number("Models that fail", _models("failed", FAILING), about="Two jobs in a row or more.", steps=NONE_IS_GOOD),
        number("Data refused", _refused("data", DATA_REFUSED), about="Of so many models, last.", steps=NONE_IS_GOOD),
        number("Models refused", _refused("gate", REFUSED), about="By the gate, three times in a row or more."),
        number("Nothing new", _refused("nothing_new", NOTHING_NEW), about="For so many models, seven jobs in a row."),
        number("Age", "time() - max(hornpipe_jobs_timestamp_seconds)", "s", unread),
    ]


def _models(state: str, least: int, refusal: str = "") -> str:
    """How many have so many such jobs in a row."""
    labels = f'state="{state}", refusal="{refusal}"'
    return f"count(max by (model) (hornpipe_job_in_a_row{{{labels}}}) >= {least}) or vector(0)"


def _refused(refusal: str, least: int) -> str:
    return _models("refused", least, refusal)


def _getting_on() -> Row:
    running = {"{{model}}": "max by (model) (hornpipe_job_running_seconds)"}
    silent = {"{{model}}": "max by (model) (hornpipe_job_progress_age_seconds)"}
    ended = {"{{model}} {{state}}": "max by (model, state) (increase(hornpipe_job_ended_total[$__rate_interval]))"}
    return 8, [
        lines("Running for", running, "s", "From the first attempt on, also while none runs after a failure."),
        lines("Without progress for", silent, "s", "A step or a stage is progress; half an hour without rings."),
        lines(
            "Ended",
            ended,
            about="As they came to their end: succeeded, refused (by the gate or for their data), failed, cancelled.",
        ),
    ]


def _outcomes() -> Json:
    def ended(state: str) -> str:
        return f'max by (model) (hornpipe_job_ended_total{{state="{state}"}})'

    def over_jobs(metric: str) -> str:
        return f"max by (model) (sum by (model, job, instance) ({metric}) / sum by (model, job, instance) {JOBS_ENDED})"

    columns = {state: ended(state) for state in ("succeeded", "refused", "failed", "cancelled")}
    columns["last success"] = "time() - max by (model) (hornpipe_job_last_success_timestamp_seconds)"
    columns["mean time"] = over_jobs("hornpipe_job_seconds_total")
    columns["mean attempts"] = over_jobs("hornpipe_job_attempts_total")
    units = dict.fromkeys(columns, "short") | {"last success": "s", "mean time": "s"}
    return table("What came of jobs", columns, ("model",), "Since the job table was made.", units=units)


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
