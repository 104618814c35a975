"""A real Prometheus that scrapes real services once a second, and judges by the rules of deploy/prometheus at once."""

import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.ports import free_port
from tests.waiting import PATIENCE_SECONDS, wait_until

RULES = Path("deploy/prometheus/rules")

# Where CI promises it, a test that cannot be run must fail.
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None and "CI" not in os.environ,
    reason="Debian's prometheus has it; .ci/run installs it",
)


class Prometheus:
    """What can be asked of one that runs."""

    def __init__(self, port: int) -> None:
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS)

    def ready(self) -> bool:
        try:
            return self.client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def query(self, query: str, at: float | None = None) -> list[dict[str, Any]]:
        """Series by labels, each with a value, as of now or of `at`; raises AssertionError with what is wrong with the
        query."""
        return self._get("/api/v1/query", query=query, **({} if at is None else {"time": at}))["result"]

    def query_range(self, query: str, start: float, end: float) -> list[dict[str, Any]]:
        return self._get("/api/v1/query_range", query=query, start=start, end=end, step=1)["result"]

    def value(self, query: str, at: float | None = None) -> float:
        """Of the one series; NaN where there is none, as after a scrape that took longer than it may."""
        found = self.query(query, at)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else math.nan

    def label_values(self, metric: str, label: str) -> list[str]:
        return self._get(f"/api/v1/label/{label}/values", **{"match[]": metric})

    def _get(self, path: str, **parameters: object) -> Any:
        answer = self.client.get(path, params=parameters).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]


def hurried_rules() -> dict[str, Any]:
    """Every rule of deploy/, evaluated each second, with alerts that ring at once; what is noted hourly still is so."""
    groups = []
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            rules = [{key: value for key, value in rule.items() if key != "for"} for rule in group["rules"]]
            groups.append({**group, "rules": rules} | ({} if group.get("interval") == "1h" else {"interval": "1s"}))
    return {"groups": groups}


@contextmanager
def running(
    folder: Path, *targets: str, alertmanager: str | None = None, rules: dict[str, Any] | None = None
) -> Iterator[Prometheus]:
    """Until the context ends, with all rules or those given; it tells an Alertmanager at that address what rings."""
    port = free_port()
    scrape = {"job_name": "hornpipe", "static_configs": [{"targets": list(targets)}]}
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    (folder / "rules.yml").write_text(yaml.safe_dump(rules or hurried_rules()))
    config = {"global": every, "rule_files": ["rules.yml"], "scrape_configs": [scrape]}
    if alertmanager is not None:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", "--log.level=warn"]
    with (folder / "log").open("wb") as log:
        command = ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    prometheus = Prometheus(port)
    try:
        wait_until(prometheus.ready, f"Prometheus is ready; {(folder / 'log').read_text()}")
        yield prometheus
    finally:
        prometheus.client.close()
        process.terminate()
        process.wait()
