"""The table of metrics: what each is called, what it means, and the fixed sets that its labels come from."""

from dataclasses import dataclass
from typing import Literal, get_args

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# The event loop's clock ticks in milliseconds.
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
DIFFERENCES = (0.0001, 0.001, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
MOST_FEATURES = 64

Outcome = Literal["ok", "invalid", "rejected", "gone", "error"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
Reason = Literal["overloaded", "deadline", "body_too_large", "too_many_rows", "not_ready", "rate_limited"]
REASONS: tuple[Reason, ...] = get_args(Reason)
Stage = Literal["decode", "queue", "run", "encode"]
STAGES: tuple[Stage, ...] = get_args(Stage)
ShadowResult = Literal["agreed", "disagreed", "shed", "failed"]
SHADOW_RESULTS: tuple[ShadowResult, ...] = get_args(ShadowResult)
LogResult = Literal["written", "queue_full", "disk", "too_long", "failed"]
LOG_RESULTS: tuple[LogResult, ...] = get_args(LogResult)
FeedbackResult = Literal["new", "same", "corrected", "unknown", "joined", "misfit"]
FEEDBACK_RESULTS: tuple[FeedbackResult, ...] = get_args(FeedbackResult)
CanaryDecision = Literal["stepped_up", "promoted", "rolled_back"]
CANARY_DECISIONS: tuple[CanaryDecision, ...] = get_args(CanaryDecision)
NO_MODEL = ""


@dataclass(frozen=True)
class Instrument:
    """A row of the table of metrics in the README."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


REQUEST_SECONDS = Instrument(
    "hornpipe_request_duration_seconds",
    "histogram",
    ("model", "route", "outcome"),
    "Seconds from the request's head until the answer is handed to the socket; failures included.",
)
STAGE_SECONDS = Instrument(
    "hornpipe_stage_duration_seconds",
    "histogram",
    ("model", "stage"),
    "Seconds in each stage of a prediction: decode, queue, run, encode.",
)
BATCH_ROWS = Instrument("hornpipe_batch_rows", "histogram", ("model",), "Rows in one run of the model.")
QUEUE_ROWS = Instrument("hornpipe_queue_rows", "gauge", ("model",), "Rows that are waiting or running.")
REJECTED = Instrument("hornpipe_rejected_total", "counter", ("model", "reason"), "Requests turned away for a limit.")
PREDICTIONS = Instrument(
    "hornpipe_predictions_total",
    "counter",
    ("model", "version", "label"),
    "Rows predicted, by label, which is empty for a value.",
)
SCORE = Instrument(
    "hornpipe_prediction_score",
    "histogram",
    ("model", "version"),
    "The output's probability, largest probability or value, on the bin edges of the baseline.",
)
OUTPUT_BIN = Instrument(
    "hornpipe_output_bin_total",
    "counter",
    ("model", "version", "output", "bin"),
    "Rows by bin of each output: score or value, and of classes confidence, entropy and margin.",
)
OUTPUT_RATIO = Instrument(
    "hornpipe_output_baseline_ratio",
    "gauge",
    ("model", "version", "output", "bin"),
    "Share of validation rows in each bin, smoothed by half a row.",
)
INPUT_BIN = Instrument(
    "hornpipe_input_bin_total",
    "counter",
    ("model", "version", "feature", "bin"),
    "Rows by bin of each feature, and of what is measured of its pictures or texts.",
)
INPUT_RATIO = Instrument(
    "hornpipe_input_baseline_ratio",
    "gauge",
    ("model", "version", "feature", "bin"),
    "Share of training rows in each bin, smoothed by half a row.",
)
OUTLIER = Instrument(
    "hornpipe_outlier_score",
    "histogram",
    ("model", "version"),
    "Rows by the share of training rows that are less strange than each.",
)
BASELINE_ROWS = Instrument(
    "hornpipe_baseline_rows", "gauge", ("model", "version"), "Rows that the input baseline was taken from."
)
OUTPUT_ROWS = Instrument(
    "hornpipe_output_baseline_rows",
    "gauge",
    ("model", "version"),
    "Rows that the output baseline was taken from.",
)
CREATED = Instrument(
    "hornpipe_model_created_timestamp_seconds", "gauge", ("model", "version"), "When the version was made, Unix time."
)
MODEL_INFO = Instrument(
    "hornpipe_model_info",
    "gauge",
    ("model", "version", "runtime", "variant", "sha256"),
    "1 for a version that is loaded; sha256 is of its manifest.",
)
SWAPS = Instrument("hornpipe_swaps_total", "counter", ("model",), "Versions put in service, by each worker.")
REFUSED = Instrument(
    "hornpipe_refused_bundles_total", "counter", ("model",), "Versions that would not load or prove themselves."
)
SHADOW_SECONDS = Instrument(
    "hornpipe_shadow_duration_seconds", "histogram", ("model",), "Seconds that a run of the shadow version takes."
)
SHADOW_ROWS = Instrument(
    "hornpipe_shadow_rows_total",
    "counter",
    ("model", "result"),
    "Rows copied to the shadow version: agreed or disagreed with the answer given, shed under load, failed.",
)
SHADOW_DIFFERENCE = Instrument(
    "hornpipe_shadow_difference",
    "histogram",
    ("model",),
    "Largest difference of a request's answers by the shadow version: of probabilities, or as a share of the range.",
)
CANARY_DECIDED = Instrument(
    "hornpipe_canary_decisions_total",
    "counter",
    ("model", "result"),
    "What the service did with canaries by itself: stepped_up, promoted, rolled_back.",
)
CANARY_PERCENT = Instrument(
    "hornpipe_canary_percent", "gauge", ("model", "version"), "Share of the traffic that a canary gets."
)
CANARY_REQUESTS = Instrument(
    "hornpipe_canary_requests",
    "gauge",
    ("model", "side", "outcome"),
    "Requests in a canary's present step, to it and to production: ok or failed.",
)
CANARY_CERTAIN = Instrument(
    "hornpipe_canary_worse",
    "gauge",
    ("model", "measure"),
    "By how much a canary is worse than production at least: above hornpipe_canary_margin it goes back.",
)
CANARY_MARGIN = Instrument(
    "hornpipe_canary_margin",
    "gauge",
    ("model", "measure"),
    "By how much a canary may be worse: errors, latency, distribution, disagreement, quality.",
)
TRACES = Instrument(
    "hornpipe_traces_total", "counter", ("model",), "Times that TensorFlow has traced a graph; flat once warm."
)
LOGGED = Instrument(
    "hornpipe_prediction_log_rows_total",
    "counter",
    ("model", "result"),
    "Rows for the prediction log: written, or lost because it had no room left, nor the disk, or for their length.",
)
FEEDBACK = Instrument(
    "hornpipe_feedback_total",
    "counter",
    ("model", "result"),
    "Labels: new, same, corrected; unknown (no such prediction yet, nor model), which joined later, or were a misfit.",
)
WORKERS = Instrument("hornpipe_workers", "gauge", (), "Worker processes that live.")
RESTARTS = Instrument("hornpipe_worker_restarts_total", "counter", (), "Worker processes that took a dead one's place.")
QUALITY = Instrument(
    "hornpipe_quality",
    "gauge",
    ("model", "version", "metric"),
    "Realised quality: of the rows that were predicted in the last HORNPIPE_QUALITY_DAYS and have a label.",
)
QUALITY_LOW = Instrument(
    "hornpipe_quality_low", "gauge", ("model", "version", "metric"), "Lower end of its 95% interval."
)
QUALITY_HIGH = Instrument(
    "hornpipe_quality_high", "gauge", ("model", "version", "metric"), "Upper end of its 95% interval."
)
QUALITY_ROWS = Instrument(
    "hornpipe_quality_rows", "gauge", ("model", "version"), "Labelled rows that the realised quality is of."
)
QUALITY_BASELINE = Instrument(
    "hornpipe_quality_baseline",
    "gauge",
    ("model", "version", "metric"),
    "The same metric on the test rows of training.",
)
QUALITY_BASELINE_LOW = Instrument(
    "hornpipe_quality_baseline_low", "gauge", ("model", "version", "metric"), "Lower end of its 95% interval."
)
QUALITY_BASELINE_HIGH = Instrument(
    "hornpipe_quality_baseline_high", "gauge", ("model", "version", "metric"), "Upper end of its 95% interval."
)
QUALITY_ESTIMATE = Instrument(
    "hornpipe_quality_estimate",
    "gauge",
    ("model", "version", "metric"),
    "Quality as the answers of the last 24 hours let expect it, without labels.",
)
QUALITY_ESTIMATE_ROWS = Instrument(
    "hornpipe_quality_estimate_rows", "gauge", ("model", "version"), "Answered rows that the estimate is of."
)
QUALITY_ESTIMATE_ERROR = Instrument(
    "hornpipe_quality_estimate_error",
    "gauge",
    ("model", "version", "metric"),
    "Estimate less realised quality, both of the labelled rows.",
)
QUALITY_TIME = Instrument(
    "hornpipe_quality_timestamp_seconds",
    "gauge",
    (),
    "When the quality was last computed, in seconds since 1970; 0 for not yet.",
)
JOBS = Instrument("hornpipe_jobs", "gauge", ("state",), "Retraining jobs that are queued, and that run.")
JOB_QUEUED = Instrument(
    "hornpipe_job_queued_seconds", "gauge", (), "How long the oldest queued job has waited since it might begin."
)
JOB_RUNNING = Instrument(
    "hornpipe_job_running_seconds", "gauge", ("model",), "Of a job that runs: seconds since its first attempt began."
)
JOB_AGE = Instrument(
    "hornpipe_job_progress_age_seconds", "gauge", ("model",), "Of a job that runs: seconds since it last got on."
)
JOBS_ENDED = Instrument(
    "hornpipe_job_ended_total",
    "counter",
    ("model", "state"),
    "Jobs that ended: succeeded, refused (by the gate or for their data), failed, cancelled; over restarts.",
)
JOB_SECONDS = Instrument(
    "hornpipe_job_seconds_total",
    "counter",
    ("model", "state"),
    "Seconds from the first attempt to the end of those jobs.",
)
JOB_ATTEMPTS = Instrument(
    "hornpipe_job_attempts_total",
    "counter",
    ("model", "state"),
    "Attempts of those jobs: more than jobs where workers died.",
)
JOB_IN_A_ROW = Instrument(
    "hornpipe_job_in_a_row",
    "gauge",
    ("model", "state", "refusal"),
    "How many of the newest ended jobs ended so, cancelled ones aside; refused ones by the gate, data or nothing_new.",
)
JOB_SUCCESS = Instrument(
    "hornpipe_job_last_success_timestamp_seconds", "gauge", ("model",), "When a job last succeeded, Unix time."
)
JOB_SCHEDULE = Instrument(
    "hornpipe_job_schedule_seconds",
    "gauge",
    ("model",),
    "The longest time between two jobs that the schedule of the version in production asks for.",
)
JOBS_TIME = Instrument(
    "hornpipe_jobs_timestamp_seconds",
    "gauge",
    (),
    "When the job table was last read, in seconds since 1970; 0 for not yet.",
)
LOOP_LAG = Instrument(
    "hornpipe_event_loop_lag_seconds",
    "histogram",
    (),
    "Seconds that the event loop comes late to ten moments a second: what a request waits before it is looked at.",
)
RUNTIME_MEMORY = Instrument(
    "hornpipe_runtime_memory_bytes",
    "gauge",
    ("model", "version"),
    "Resident bytes of the processes that run a SavedModel.",
)
GPU_INFO = Instrument("hornpipe_gpu_info", "gauge", ("gpu", "name"), "1 for a GPU of this machine, by its number.")
GPU_USED = Instrument(
    "hornpipe_gpu_utilization_ratio", "gauge", ("gpu",), "Share of the time in which the GPU ran anything."
)
GPU_MEMORY_USED = Instrument("hornpipe_gpu_memory_used_bytes", "gauge", ("gpu",), "Memory of the GPU that is taken.")
GPU_MEMORY = Instrument("hornpipe_gpu_memory_bytes", "gauge", ("gpu",), "Memory of the GPU.")
GPU_TEMPERATURE = Instrument("hornpipe_gpu_temperature_celsius", "gauge", ("gpu",), "Temperature of the GPU's chip.")
GPU_POWER = Instrument("hornpipe_gpu_power_watts", "gauge", ("gpu",), "Power that the GPU draws.")

INSTRUMENTS = (
    REQUEST_SECONDS,
    STAGE_SECONDS,
    BATCH_ROWS,
    QUEUE_ROWS,
    REJECTED,
    PREDICTIONS,
    SCORE,
    OUTPUT_BIN,
    OUTPUT_RATIO,
    INPUT_BIN,
    INPUT_RATIO,
    OUTLIER,
    BASELINE_ROWS,
    OUTPUT_ROWS,
    CREATED,
    MODEL_INFO,
    SWAPS,
    REFUSED,
    SHADOW_SECONDS,
    SHADOW_ROWS,
    SHADOW_DIFFERENCE,
    CANARY_DECIDED,
    CANARY_PERCENT,
    CANARY_REQUESTS,
    CANARY_CERTAIN,
    CANARY_MARGIN,
    TRACES,
    LOGGED,
    FEEDBACK,
    WORKERS,
    RESTARTS,
    LOOP_LAG,
    RUNTIME_MEMORY,
    GPU_INFO,
    GPU_USED,
    GPU_MEMORY_USED,
    GPU_MEMORY,
    GPU_TEMPERATURE,
    GPU_POWER,
    QUALITY,
    QUALITY_LOW,
    QUALITY_HIGH,
    QUALITY_ROWS,
    QUALITY_BASELINE,
    QUALITY_BASELINE_LOW,
    QUALITY_BASELINE_HIGH,
    QUALITY_ESTIMATE,
    QUALITY_ESTIMATE_ROWS,
    QUALITY_ESTIMATE_ERROR,
    QUALITY_TIME,
    JOBS,
    JOB_QUEUED,
    JOB_RUNNING,
    JOB_AGE,
    JOBS_ENDED,
    JOB_SECONDS,
    JOB_ATTEMPTS,
    JOB_IN_A_ROW,
    JOB_SUCCESS,
    JOB_SCHEDULE,
    JOBS_TIME,
)
