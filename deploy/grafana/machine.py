"""What the service's processes take, and how busy the GPUs are."""

from deploy.grafana.panels import NONE_IS_BAD, NONE_IS_GOOD, Json, Row, dashboard, lines, number, section
from deploy.grafana.queries import OURS, quantiles, rate


def machine() -> Json:
    about = "What the service's processes take, and how busy the GPUs are."
    rows = [_numbers(), _processes(), _loop(), section("GPU"), _gpus()]
    return dashboard("machine", "Machine and GPU", about, [], rows)


def _numbers() -> Row:
    return 4, [
        number("Replicas", "count(hornpipe_workers)", steps=NONE_IS_BAD),
        number("Workers", "sum(hornpipe_workers)", steps=NONE_IS_BAD),
        number("Workers that died", "sum(hornpipe_worker_restarts_total)", steps=NONE_IS_GOOD),
        number("Running for", f"min(time() - process_start_time_seconds {OURS})", "s"),
        number("GPUs", "count(hornpipe_gpu_info)"),
    ]


def _processes() -> Row:
    runtimes = {"{{model}}/{{version}}": "sum by (model, version) (hornpipe_runtime_memory_bytes)"}
    part = "Part of the memory beside it: the processes that run a SavedModel."
    return 8, [
        _ours("Processors in use", rate("process_cpu_seconds_total"), "short", "By all processes of a replica."),
        _ours("Resident memory", "process_resident_memory_bytes", "bytes", "Of all processes of a replica."),
        lines("Memory of TensorFlow", runtimes, "bytes", part, stacked=True),
    ]


def _loop() -> Row:
    lag = quantiles("hornpipe_event_loop_lag_seconds", by=("instance",))
    waits = "What a request waits before anybody looks at it. Its clock ticks in milliseconds."
    files = "process_open_fds / process_max_fds"
    return 8, [
        lines("Event loop lag", lag, "s", waits),
        _ours("Open files", files, "percentunit", "Of those that may be open; each connection is one."),
        _ours("Time of a scrape", "scrape_duration_seconds", "s", "By Prometheus' clock."),
    ]


def _gpus() -> Row:
    def of_each(title: str, query: str, unit: str) -> Json:
        return lines(title, {"{{instance}} GPU {{gpu}}": query}, unit)

    return 8, [
        of_each("Busy", "hornpipe_gpu_utilization_ratio", "percentunit"),
        of_each("Memory in use", "hornpipe_gpu_memory_used_bytes / hornpipe_gpu_memory_bytes", "percentunit"),
        of_each("Temperature", "hornpipe_gpu_temperature_celsius", "celsius"),
        of_each("Power", "hornpipe_gpu_power_watts", "watt"),
    ]


def _ours(title: str, query: str, unit: str, about: str) -> Json:
    return lines(title, {"{{instance}}": f"{query} {OURS}"}, unit, about)
