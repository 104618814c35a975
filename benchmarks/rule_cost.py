"""What the rules of deploy/prometheus cost Prometheus: ten models of 64 numbers, with a week of hours behind them.

    python -m benchmarks.rule_cost

Two of Debian's Prometheus begin with a week of made-up hourly counts and scrape the same page of ten models every 15
seconds for eight minutes, one with the rules and one without. Prints processor seconds a minute of both, and their
memory: processor time, because other programs run here too.
"""

import asyncio
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from benchmarks.counting import Served, metrics_of, numbers
from contract.histogram import bin_names
from service.counting.process import usage
from service.counting.store import OwnMemory

RULES = Path("deploy/prometheus/rules").resolve()
MODELS, NUMBERS = 10, 64
WARM, MEASURED = 120, 360  # seconds
HOUR, CHUNK = 3600, 6


def page(served: list[Served]) -> bytes:
    """A scrape of the real service's own text."""
    metrics = metrics_of(served, OwnMemory())
    for each in served:
        tally = each.monitor.tally
        counts, sums = tally.read()
        tally.add(np.random.default_rng(0).poisson(100, counts.shape), np.zeros_like(sums))
    return asyncio.run(metrics.scrape()).encode()


def hours(served: list[Served], first: int) -> Iterator[str]:
    """Every bin's counts of a few hours, in OpenMetrics."""
    rng = np.random.default_rng(first)
    for level, kind, name in (("feature", "input", "inputs"), ("output", "output", "outputs")):
        metric = f"model_version_{level}_bin:hornpipe_{kind}_bin:increase1h_hourly"
        yield f"# TYPE {metric} gauge\n"
        for each in served:
            for feature, bins in getattr(each.manifest.drift, name).items():
                for bin_ in bin_names(bins):
                    labels = f'model="{each.manifest.name}",version="1",{level}="{feature}",bin="{bin_}"'
                    for hour, count in enumerate(rng.poisson(100, CHUNK)):
                        yield f"{metric}{{{labels}}} {count} {first + HOUR * hour}\n"
    yield "# EOF\n"


def backfill(served: list[Served], folder: Path) -> None:
    """A week, a few hours at a time: promtool reads the whole file for every block of two hours."""
    now = int(time.time())
    for first in range(now - 168 * HOUR, now - HOUR, CHUNK * HOUR):
        file = folder / "hours.txt"
        with file.open("w") as lines:
            lines.writelines(hours(served, first))
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(file), str(folder / "data")]
        subprocess.run(command, check=True, capture_output=True)


def serve(text: bytes) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def prometheus(folder: Path, target: int, port: int, rules: bool) -> subprocess.Popen[bytes]:
    every = {"scrape_interval": "15s", "scrape_timeout": "10s", "evaluation_interval": "30s"}
    scrape = {"job_name": "hornpipe", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
    config = {"global": every, "scrape_configs": [scrape], "rule_files": [f"{RULES}/*.yml"] if rules else []}
    (folder / "prometheus.yml").write_text(json.dumps(config))
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", "--log.level=error"]
    return subprocess.Popen(["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"])


def main() -> None:
    served = [Served(f"model-{i}", numbers(NUMBERS)) for i in range(MODELS)]
    text = page(served)
    server = serve(text)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        running = {}
        for name, rules, port in ((first, True, 9198), (second, False, 9199)):
            backfill(served, Path(name))
            running[rules] = prometheus(Path(name), server.server_port, port, rules)
        time.sleep(WARM)
        before = {rules: usage(process.pid) for rules, process in running.items()}
        time.sleep(MEASURED)
        after = {rules: usage(process.pid) for rules, process in running.items()}
        for process in running.values():
            process.terminate()
            process.wait()
    server.shutdown()
    print(f"{len(text) / 1e6:.1f} MB a scrape, {text.count(b'hornpipe_input_bin_total{'):,} bins of inputs")
    for rules, label in ((False, "scrapes alone"), (True, "with the rules")):
        seconds = (after[rules].cpu - before[rules].cpu) / MEASURED
        print(f"{label:15} {seconds:.2%} of a core, {after[rules].resident / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
