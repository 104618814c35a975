"""The example from data to answer: python -m examples.flights [first-model | demo]

first-model   prepare the data and train, unless models/flights serves already
demo          that, then serve on 127.0.0.1:8000, ask once, and serve on until Ctrl-C
"""

import json
import os
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from contract import bundle, routing
from examples.flights.prepare import prepare

CONFIG = Path(__file__).with_name("train.toml")
DATA = Path("build/flights")
NAME = "flights"
MODELS = Path(os.environ.get("HORNPIPE_MODELS_DIR", "models"))
READY_WITHIN_SECONDS = 60.0

# A Friday evening in December, from Newark to Chicago, in light snow.
ROW = {
    "carrier": "UA",
    "origin": "EWR",
    "dest": "ORD",
    "month": 12,
    "day_of_week": 5,
    "departure_minute": 1110,
    "arrival_minute": 1215,
    "distance": 719,
    "temp": 31,
    "precip": 0.02,
    "visib": 2.5,
    "plane_age": 12,
}


def first_model() -> int:
    """Train and promote the first version; nothing to do where one serves. Safe to stop and start again."""
    if routing.read(MODELS, NAME).production is not None:
        return 0
    if not DATA.exists():
        print(f"preparing 336,776 flights in {DATA}", flush=True)
        prepare(DATA)
    return subprocess.run([*hornpipe(), "train", str(CONFIG), "--models", str(MODELS), "--promote"]).returncode


def demo() -> int:
    """Serve, ask, show. The service is a child process; Ctrl-C ends both."""
    if code := first_model():
        return code
    address = f"http://127.0.0.1:{os.environ.get('HORNPIPE_PORT', '8000')}"
    version = routing.read(MODELS, NAME).production
    print(f"\nserving {bundle.read_version(MODELS, NAME, version or 0).path} on {address}", flush=True)
    service = subprocess.Popen([*hornpipe(), "serve", "--models", str(MODELS)])
    try:
        if not wait_until_ready(service, address):
            return 1
        ask(address)
        return service.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        service.terminate()
        service.wait()


def hornpipe() -> list[str]:
    """The command line of the environment that runs this."""
    return [sys.executable, "-m", "hornpipe"]


def wait_until_ready(service: "subprocess.Popen[bytes]", address: str) -> bool:
    """Whether /readyz says yes in time; not, when the service ends first or does not get there."""
    ends = time.monotonic() + READY_WITHIN_SECONDS
    while service.poll() is None and time.monotonic() < ends:
        try:
            with urllib.request.urlopen(f"{address}/readyz") as answer:  # noqa: S310  # our own address
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    return False


def ask(address: str) -> None:
    """Print a curl line that works, and what it answers."""
    body = json.dumps({"instances": [ROW]})
    print(f"\n$ curl {address}/predict -H 'content-type: application/json' -d {shlex.quote(body)}")
    request = urllib.request.Request(  # noqa: S310  # our own address
        f"{address}/predict", body.encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310  # our own address
        print(answer.read().decode())
    print(f"\ndocumentation {address}/docs   metrics {address}/metrics   Ctrl-C stops", flush=True)


COMMANDS = {"first-model": first_model, "demo": demo}

if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) == 2 else ""
    if chosen not in COMMANDS:
        sys.exit(__doc__)
    sys.exit(COMMANDS[chosen]())
