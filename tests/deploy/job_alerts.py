"""When alerts on retraining jobs ring and when they do not. promtool's clock begins at 1970."""

from tests.deploy.promtool import Case, series

M = {"model": "m"}
AT = {"job": "hornpipe", "instance": "a"}
ELSEWHERE = {"job": "hornpipe", "instance": "b"}
LOADED = series("hornpipe_model_info", "1x3000", **M, version="1", runtime="litert")
REFUSALS = ("gate", "data", "nothing_new")
DAY = 86400


def unread() -> list[Case]:
    alert, who, metric = "HornpipeJobsUnread", {**AT, "severity": "warning"}, "hornpipe_jobs_timestamp_seconds"
    return [
        Case(alert, "rings when the table is read no more", [series(metric, "0+60x10 600x60", **AT)], "20m", (who,)),
        Case(alert, "rings if it was never read", [series(metric, "0x60", **AT)], "20m", (who,)),
        Case(alert, "not at once", [series(metric, "0+60x10 600x60", **AT)], "14m"),
        Case(alert, "not while it is read", [series(metric, "0+60x60", **AT)], "20m"),
    ]


def queue(waited: str, running: str, **at: str) -> list[dict[str, str]]:
    return [
        series("hornpipe_job_queued_seconds", waited, **(at or AT)),
        series("hornpipe_jobs", running, **(at or AT), state="running"),
        series("hornpipe_jobs", "1x900", **(at or AT), state="queued"),
    ]


def no_worker() -> list[Case]:
    alert, who = "HornpipeJobsNoWorker", {**AT, "severity": "warning"}
    return [
        Case(alert, "rings when nothing runs", queue("0+60x60", "0x60"), "15m", (who,)),
        Case(
            alert,
            "rings though another machine's worker runs",
            [*queue("0+60x60", "0x60"), *queue("0x60", "1x60", **ELSEWHERE)],
            "15m",
            (who,),
        ),
        Case(alert, "not at once", queue("0+60x60", "0x60"), "8m"),
        Case(alert, "not while another job runs", queue("0+60x60", "1x60"), "15m"),
        Case(alert, "not if nothing waits", queue("0x60", "0x60"), "15m"),
        Case(alert, "not between two jobs of many", queue("0+60x60", "1x10 0x1 1x60"), "30m"),
    ]


def waiting() -> list[Case]:
    alert, who = "HornpipeJobsWaiting", {**AT, "severity": "warning"}

    def case(name: str, given: list[dict[str, str]], *firing: dict[str, str]) -> Case:
        return Case(alert, name, given, "7h", firing, "10m")

    return [
        case("rings after hours", queue("0+600x60", "2x60"), who),
        case("not if nothing runs, which is worse", queue("0+600x60", "0x60")),
        case("not if each waits for an hour", queue("0+600x5 0+600x5 0+600x5 0+600x5 0+600x5 0+600x60", "2x60")),
    ]


def stuck() -> list[Case]:
    alert, who, metric = "HornpipeJobStuck", {**M, "severity": "warning"}, "hornpipe_job_progress_age_seconds"
    return [
        Case(alert, "rings", [series(metric, "0+60x60", **M)], "40m", (who,)),
        Case(alert, "not within half an hour", [series(metric, "0+60x60", **M)], "30m"),
        Case(alert, "not of one that gets on", [series(metric, "0+60x20 0+60x60", **M)], "40m"),
        Case(alert, "no more once it has ended", [series(metric, "0+60x36 _x60", **M)], "45m"),
        Case(
            alert,
            "not of one that takes long",
            [series("hornpipe_job_running_seconds", "0+600x60", **M), series(metric, "15x60", **M)],
            "60m",
        ),
    ]


def in_a_row(state: str, values: str, refusal: str = "") -> list[dict[str, str]]:
    return [series("hornpipe_job_in_a_row", values, **M, state=state, refusal=refusal)]


def failing() -> list[Case]:
    alert, who = "HornpipeJobsFailing", {**M, "severity": "warning"}
    return [
        Case(alert, "rings at the second", in_a_row("failed", "1x5 2x60"), "15m", (who,)),
        Case(alert, "not at the first", in_a_row("failed", "0x5 1x60"), "15m"),
        Case(alert, "no more once one has not failed", in_a_row("failed", "2x10 0x60"), "15m"),
        *(Case(alert, f"not of refused ones ({by})", in_a_row("refused", "9x60", by), "15m") for by in REFUSALS),
        Case(alert, "not of good ones", in_a_row("succeeded", "9x60"), "15m"),
    ]


def refused() -> list[Case]:
    alert, who = "HornpipeJobsRefused", {**M, "severity": "info"}
    return [
        Case(alert, "rings at the third", in_a_row("refused", "2x5 3x60", "gate"), "15m", (who,)),
        Case(alert, "not at the second", in_a_row("refused", "2x60", "gate"), "15m"),
        Case(alert, "not of failed ones", in_a_row("failed", "9x60"), "15m"),
        Case(alert, "not for want of data", in_a_row("refused", "9x60", "nothing_new"), "15m"),
        Case(alert, "not for data that are wrong", in_a_row("refused", "9x60", "data"), "15m"),
    ]


def data_refused() -> list[Case]:
    alert, who = "HornpipeJobsDataRefused", {**M, "severity": "warning"}
    return [
        Case(alert, "rings at the first", in_a_row("refused", "0x5 1x60", "data"), "15m", (who,)),
        Case(alert, "no more once another ended otherwise", in_a_row("refused", "2x10 0x60", "data"), "15m"),
        Case(alert, "not for want of data", in_a_row("refused", "9x60", "nothing_new"), "15m"),
        Case(alert, "not by the gate", in_a_row("refused", "9x60", "gate"), "15m"),
    ]


def nothing_new() -> list[Case]:
    alert, who = "HornpipeJobsNothingNew", {**M, "severity": "info"}
    return [
        Case(alert, "rings after a week of nights", in_a_row("refused", "6x5 7x60", "nothing_new"), "15m", (who,)),
        Case(alert, "not before", in_a_row("refused", "6x60", "nothing_new"), "15m"),
        Case(alert, "not by the gate", in_a_row("refused", "9x60", "gate"), "15m"),
    ]


def no_success() -> list[Case]:
    alert, who = "HornpipeJobsNoSuccess", {**M, "severity": "warning"}
    created = series("hornpipe_model_created_timestamp_seconds", f"{DAY}x3000", **M, version="1")

    def scheduled(every: float) -> dict[str, str]:
        return series("hornpipe_job_schedule_seconds", f"{every}x3000", **M, **AT)

    def success(at: float) -> dict[str, str]:
        return series("hornpipe_job_last_success_timestamp_seconds", f"{at}x3000", **M, **AT)

    def case(name: str, given: list[dict[str, str]], at: str, *firing: dict[str, str], every: str = "6h") -> Case:
        return Case(alert, name, given, at, firing, every)

    served = [created, LOADED]
    scheduled_served = [*served, success(2 * DAY), scheduled(DAY), *in_a_row("refused", "0x3000", "gate")]
    return [
        case("rings after three nights", [*served, success(2 * DAY), scheduled(DAY)], "132h", who),
        case("rings if none ever did", [*served, scheduled(DAY)], "4d12h", who),
        case("not before", [*served, success(2 * DAY), scheduled(DAY)], "114h"),
        case("not if the version was trained by hand since", [*served, success(1), scheduled(DAY)], "3d12h"),
        case(
            "not where there is nothing new", [*scheduled_served, *in_a_row("refused", "1x3000", "nothing_new")], "9d"
        ),
        case("rings where data are refused", [*scheduled_served, *in_a_row("refused", "9x3000", "data")], "9d", who),
        case("not without a schedule", [*served, success(2 * DAY)], "30d"),
        case("not after a week of a monthly one", [*served, success(2 * DAY), scheduled(31 * DAY)], "9d"),
        case("not within a day of an hourly one", [*served, success(2 * DAY), scheduled(3600)], "70h", every="1h"),
        case("after a day of an hourly one", [*served, success(2 * DAY), scheduled(3600)], "75h", who, every="1h"),
    ]


OF_ALL = (unread, no_worker, waiting, stuck, failing, data_refused, refused, nothing_new, no_success)
JOB_CASES = [case for cases in OF_ALL for case in cases()]
