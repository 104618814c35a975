"""Triton's statistics extension (server/docs/protocol/extension_statistics.md), from what is counted anyway.

Counts are of a model, of all its versions together. No batch sizes are told apart, nor is there a cache; when a model
last ran is not kept, and is 0.
"""

from collections.abc import Iterable
from typing import Any

from service.counting.counters import Total, Totals
from service.counting.instruments import BATCH_ROWS, REQUEST_SECONDS, STAGE_SECONDS, STAGES, Outcome

Statistics = dict[str, Any]

# What else REST's clients look for, of which nothing is known here.
NOT_TOLD: Statistics = {"response_stats": {}, "batch_stats": [], "memory_usage": []}

_NONE = Total(0, 0)
_OK: tuple[Outcome, ...] = ("ok",)
_FAILED: tuple[Outcome, ...] = ("invalid", "rejected", "error")
# Requests by other routes ask for something else.
_ROUTES = (
    "/predict",
    "/invocations",
    *(f"/v1/models/{{model}}:{method}" for method in ("predict", "classify", "regress")),
    "/v2/models/{model}/infer",
    *(f"grpc/{method}" for method in ("ModelInfer", "ModelStreamInfer", "Predict", "Classify", "Regress")),
)


def statistics(name: str, version: int, totals: Totals) -> Statistics:
    """An entry of `model_stats`."""
    ran = totals.get((BATCH_ROWS.name, ()), _NONE)
    stages = {stage: totals.get((STAGE_SECONDS.name, (stage,)), _NONE) for stage in STAGES}
    durations = {
        "success": _requests(totals, _OK),
        "fail": _requests(totals, _FAILED),
        "queue": stages["queue"],
        "compute_input": stages["decode"],
        "compute_infer": stages["run"],
        "compute_output": stages["encode"],
        "cache_hit": _NONE,
        "cache_miss": _NONE,
    }
    return {
        "name": name,
        "version": str(version),
        "last_inference": 0,
        "inference_count": ran.amount,
        "execution_count": ran.times,
        "inference_stats": {key: {"count": each.times, "ns": each.amount} for key, each in durations.items()},
    }


def _requests(totals: Totals, outcomes: Iterable[Outcome]) -> Total:
    found = [totals.get((REQUEST_SECONDS.name, (route, each)), _NONE) for route in _ROUTES for each in outcomes]
    return Total(sum(each.times for each in found), sum(each.amount for each in found))
