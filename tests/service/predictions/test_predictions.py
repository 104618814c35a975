"""The prediction log of a real service: what is in it, what is not, and what happens when it cannot be written."""

import hmac
import re
import resource
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import pytest

from contract import routing
from service.predictions import predictions, segments
from service.predictions.segments import Segments
from service.settings import SettingsError, from_environment
from tests.conftest import NAME, Serve, add_version, serving
from tests.service.processes.test_workers import gone
from tests.service.processes.test_workers import workers as workers_of
from tests.service.scraped import Samples, parsed, total, value
from tests.test_server import Process, Start, start
from tests.waiting import PATIENCE_SECONDS, wait_until

__all__ = ["start"]  # the fixture of test_server, which ends what it has started

Row = dict[str, object]
ROWS = "hornpipe_prediction_log_rows_total"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "predictions"


def lines(folder: Path) -> list[dict[str, Any]]:
    """Of requests, as they can be read now."""
    return [each for path in segments.paths(folder) for _, _, each in segments.read(path) if "id" in each]


def written(folder: Path, count: int) -> list[dict[str, Any]]:
    """Once there are so many."""
    wait_until(lambda: len(lines(folder)) >= count, f"{count} requests are logged")
    return lines(folder)


def samples(client: httpx.Client) -> Samples:
    return parsed(client.get("/metrics").text)


def ask(client: httpx.Client, *rows: object, request_id: str | None = None) -> httpx.Response:
    headers = {"x-request-id": request_id} if request_id else {}
    return client.post("/predict", json={"instances": rows}, headers=headers).raise_for_status()


def test_nothing_is_kept_unless_it_is_asked_for(client: httpx.Client, row: Row, folder: Path) -> None:
    ask(client, row)

    assert not folder.exists()
    assert not any(name == ROWS for name, _ in samples(client))


def test_what_was_asked_and_answered_is_in_the_log(serve: Serve, row: Row, folder: Path, models: Path) -> None:
    client = serve(predictions_dir=folder)
    before = time.time()
    answer = ask(client, row, row | {"distance": 12.5}, request_id="first").json()
    (line,) = written(folder, 1)

    assert line["id"] == "first"
    assert before <= line["time"] <= time.time()
    assert (line["model"], line["version"], line["role"]) == (NAME, 1, "production")
    assert line["rows"] == [row, row | {"distance": 12.5}]
    late = [each["probabilities"]["late"] for each in answer["predictions"]]
    np.testing.assert_array_equal(np.float32(line["outputs"]["probability"]), np.float32(late))
    (path,) = segments.paths(folder)
    about = next(each["about"] for _, _, each in segments.read(path))
    assert (about["model"], about["version"], about["output"]["classes"]) == (NAME, 1, ["on_time", "late"])
    wait_until(lambda: value(samples(client), ROWS, model=NAME, result="written") == 2, "it is counted")
    assert total(samples(client), ROWS) == 2

    refused = client.post("/predict", json={"instances": [{"distance": "far"}]})
    assert refused.status_code == 422
    ask(client, row, request_id="last")
    assert [each["id"] for each in written(folder, 2)] == ["first", "last"]


def test_every_protocol_is_logged_as_a_row_that_is_answered_the_same(serve: Serve, row: Row, folder: Path) -> None:
    client = serve(predictions_dir=folder)
    sent = {"carrier": "B6", "temp": 31.25, "wind_gust": None}
    row = {name: each for name, each in (row | sent).items() if each is not None}
    columns = [
        {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(each, str) else "FP32", "data": [each]}
        for name, each in row.items()
    ]
    csv = ",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n"
    client.post("/v2/models/flights/infer", json={"inputs": columns}).raise_for_status()
    client.post("/v1/models/flights:predict", json={"instances": [row]}).raise_for_status()
    client.post("/v1/models/flights:predict", json={"inputs": {k: [v] for k, v in row.items()}}).raise_for_status()
    client.post("/invocations", json={"dataframe_records": [row]}).raise_for_status()
    client.post("/predict", content=csv, headers={"content-type": "text/csv"}).raise_for_status()

    logged = written(folder, 5)
    assert len({each["id"] for each in logged}) == 5
    for line in logged:
        assert line["rows"] == [row], line
        (again,) = ask(client, *line["rows"]).json()["predictions"]
        assert np.float32(again["probabilities"]["late"]) == np.float32(line["outputs"]["probability"][0])


def test_what_is_named_is_left_out_or_hashed(serve: Serve, row: Row, folder: Path) -> None:
    salt = "0123456789abcdef"
    client = serve(
        predictions_dir=folder,
        predictions_redact=("dest", "temp"),
        predictions_hash=("carrier", "distance", "temp"),
        predictions_salt=salt,
    )
    ask(client, row | {"carrier": "UA", "distance": 719, "temp": 30.5, "origin": "EWR"}, request_id="json")
    inputs = [
        {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(each, str) else "FP32", "data": [each]}
        for name, each in (row | {"carrier": "UA", "distance": 719.0, "origin": "EWR"}).items()
        if each is not None
    ]
    client.post("/v2/models/flights/infer", json={"inputs": inputs}).raise_for_status()

    def keyed(message: bytes) -> str:
        return hmac.new(salt.encode(), message, "sha256").hexdigest()[:32]

    for line in written(folder, 2):
        (kept,) = line["rows"]
        assert (kept["dest"], kept["temp"], kept["origin"]) == (None, None, "EWR")
        assert kept["carrier"] == keyed(b"carrier\0UA")
        assert kept["distance"] == keyed(b"distance\x00719")
    raw = b"".join(path.read_bytes() for path in folder.iterdir())
    assert salt.encode() not in raw
    assert str(row["dest"]).encode() not in raw


def test_a_hash_needs_a_salt() -> None:
    with pytest.raises(SettingsError, match="HORNPIPE_PREDICTIONS_HASH needs HORNPIPE_PREDICTIONS_SALT of at least 16"):
        from_environment({"HORNPIPE_PREDICTIONS_HASH": "carrier", "HORNPIPE_PREDICTIONS_SALT": "short"})


def test_the_same_share_is_chosen_everywhere(models: Path, row: Row, tmp_path: Path) -> None:
    ids = [f"87b81091ed0f-{i:x}" for i in range(400)]
    kept: list[set[str]] = []
    for name, share in (("a", 0.2), ("b", 0.2), ("c", 0.5), ("none", 0.0)):
        with serving(models, predictions_dir=tmp_path / name, predictions_share=share) as running:
            for each in ids:
                ask(running.client, row, request_id=each)
        kept.append({line["id"] for line in lines(tmp_path / name)})  # what has waited is written when it ends
    first, second, third, none = kept

    assert first == second < third
    assert abs(len(first) - 80) < 5 * (400 * 0.2 * 0.8) ** 0.5
    assert abs(len(third) - 200) < 5 * (400 * 0.5 * 0.5) ** 0.5
    assert none == set()


def test_what_there_is_no_room_for_is_dropped_and_counted(
    serve: Serve, row: Row, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While three at most are being written, and three wait."""
    may_write, append = threading.Event(), Segments.append
    monkeypatch.setattr(Segments, "append", lambda *given: may_write.wait(PATIENCE_SECONDS) and append(*given))
    monkeypatch.setattr(predictions, "MOST_WAITING", 3)
    client = serve(predictions_dir=folder)
    try:
        for i in range(10):
            ask(client, row, row, request_id=str(i))
    finally:
        may_write.set()

    wait_until(lambda: total(samples(client), ROWS) == 20, "all are counted")
    counted = samples(client)
    lost = value(counted, ROWS, model=NAME, result="queue_full")
    assert lost >= 8
    assert value(counted, ROWS, model=NAME, result="written") == 20 - lost
    assert len(lines(folder)) == 10 - lost / 2


def test_a_row_that_is_larger_than_a_segment_is_not_written(serve: Serve, row: Row, folder: Path) -> None:
    client = serve(predictions_dir=folder, predictions_bytes=2**20)
    ask(client, *[row] * 1000)
    ask(client, row)

    assert len(written(folder, 1)) == 1
    wait_until(lambda: total(samples(client), ROWS) == 1001, "all are counted")
    assert value(samples(client), ROWS, model=NAME, result="too_long") == 1000


def test_versions_and_their_roles_are_told_apart(serve: Serve, row: Row, folder: Path, models: Path) -> None:
    add_version(models)
    routing.canary(models, NAME, 2, 50, by="test", why="test")
    client = serve(predictions_dir=folder)

    def serving() -> list[bool]:
        return [each["serving"] is not None for each in client.get("/models").json()["models"][0]["loaded"]]

    wait_until(lambda: serving() == [True, True], "both are loaded")
    answers = {f"id-{i}": ask(client, row, request_id=f"id-{i}").json()["version"] for i in range(40)}

    logged = {line["id"]: (line["version"], line["role"]) for line in written(folder, 40)}
    roles = {1: "production", 2: "canary"}
    assert logged == {each: (version, roles[version]) for each, version in answers.items()}
    assert set(answers.values()) == {1, 2}


def test_a_folder_that_cannot_be_written_to_ends_the_start(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"HORNPIPE_PREDICTIONS_DIR: .*Not a directory"):
        serve(predictions_dir=tmp_path / "file" / "log")


def writers(folder: Path) -> set[str]:
    """The processes that have begun to write."""
    return {re.search(r"-(\d+)\.jsonl$", path.name)[1] for path in segments.paths(folder)}


def kill(process: Process) -> None:
    """All of it: workers die with their supervisor."""
    ids = list(workers_of(process).values())
    process.process.send_signal(signal.SIGKILL)
    process.process.wait()
    wait_until(lambda: all(map(gone, ids)), "nobody writes any more")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_kill_loses_the_last_second_at_most(start: Start, row: Row, folder: Path, workers: int) -> None:
    process = start(WORKERS=workers, PREDICTIONS_DIR=folder)
    wait_until(lambda: total(samples(process.client), "hornpipe_swaps_total") >= workers, "all have loaded")
    answered: list[tuple[str, float]] = []
    ends = time.monotonic() + 3
    while time.monotonic() < ends or len(answered) < 200 or len(writers(folder)) < workers:
        with httpx.Client(base_url=f"http://127.0.0.1:{process.port}", timeout=PATIENCE_SECONDS) as client:
            for _ in range(20):  # by whichever worker takes the connection
                request_id = f"{len(answered)}"
                ask(client, row, request_id=request_id)
                answered.append((request_id, time.time()))
    killed = time.time()
    kill(process)
    # Whatever has kept us waiting has kept whoever writes waiting too.
    stood_still = max(after - before for before, after in pairwise([*(at for _, at in answered[-500:]), killed]))

    kept = {line["id"] for line in lines(folder)}
    assert {request_id for request_id, at in answered if at < killed - 1 - stood_still} <= kept
    assert len(writers(folder)) == workers

    again = start(WORKERS=workers, PREDICTIONS_DIR=folder)
    sent = [{"request_id": request_id, "label": "late"} for request_id, _ in answered]

    def known() -> int:
        return len(sent) - int(again.client.post("/feedback", json=sent).raise_for_status().json()["unknown"])

    wait_until(lambda: known() == len(kept), "what a dead process has logged is indexed by the next")


def timed(client: httpx.Client, row: Row) -> float:
    """Seconds."""
    began = time.perf_counter()
    ask(client, row)
    return time.perf_counter() - began


def test_a_full_disk_hurts_nobody_and_the_log_goes_on_when_there_is_room(start: Start, row: Row, folder: Path) -> None:
    process = start(PREDICTIONS_DIR=folder)
    client, limits = process.client, resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE)
    ask(client, row)
    written(folder, 1)
    feedback = {"request_id": "unheard-of", "label": "late"}
    client.post("/feedback", json=feedback).raise_for_status()

    usual = median(timed(client, row) for _ in range(50))
    written(folder, 51)
    wait_until(lambda: value(samples(client), ROWS, model=NAME, result="written") == 51, "it is counted")
    resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))  # no file may grow: its disk is full
    seconds = [timed(client, row) for _ in range(200)]
    wait_until(lambda: value(samples(client), ROWS, model=NAME, result="disk") == 200, "what is lost is counted")
    assert value(samples(client), ROWS, model=NAME, result="written") == 51
    refused = client.post("/feedback", json=feedback | {"request_id": "another"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert "retry-after" in refused.headers
    assert client.get("/readyz").status_code == 200
    assert median(seconds) < 0.1 + 5 * usual

    resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, limits)

    def goes_on() -> bool:
        ask(client, row)
        return value(samples(client), ROWS, model=NAME, result="written") > 51

    wait_until(goes_on, "the log goes on")
    assert client.post("/feedback", json=feedback | {"request_id": "another"}).json()["unknown"] == 1
    assert len(written(folder, 52)) >= 52
    for path in segments.paths(folder):
        assert path.read_bytes().endswith(b"\n")


def test_what_waits_is_written_when_the_service_ends(start: Start, row: Row, folder: Path) -> None:
    process = start(WORKERS=2, PREDICTIONS_DIR=folder)
    for i in range(30):
        ask(process.client, row, request_id=str(i))
    assert process.stop() == 0

    assert {line["id"] for line in lines(folder)} == {str(i) for i in range(30)}
