"""`python -m deploy.grafana.write` writes dashboards/*.json, which Grafana reads, from the Python beside it.

Edit that, run this, and commit both: tests/deploy/test_dashboards.py holds them equal, and asks a real Prometheus every
query.
"""

import json
from pathlib import Path

from deploy.grafana.machine import machine
from deploy.grafana.model import model
from deploy.grafana.overview import overview
from deploy.grafana.panels import Json
from deploy.grafana.training import training

FOLDER = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, Json]:
    """By the name of the file."""
    return {"overview": overview(), "model": model(), "training": training(), "machine": machine()}


def text(board: Json) -> str:
    return json.dumps(board, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    for name, board in dashboards().items():
        (FOLDER / f"{name}.json").write_text(text(board))


if __name__ == "__main__":
    main()
