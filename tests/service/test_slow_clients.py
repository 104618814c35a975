"""Clients that send slowly, do not read, come in thousands or leave: nobody else notices, and nothing is kept."""

# ruff: noqa: F811  # a fixture that is imported is named as an argument again
import json
import os
import resource
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

import httpx
import pytest

from tests.conftest import NAME
from tests.corpus.wire import post
from tests.test_server import Process, Start, start  # noqa: F401  # a fixture
from tests.waiting import PATIENCE_SECONDS, wait_until

Row = dict[str, object]
MEGABYTE = 2**20


@pytest.fixture
def sound(row: Row) -> bytes:
    return json.dumps({"instances": [row], "model": NAME}).encode()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def connect(process: Process, stack: ExitStack, buffer: int | None = None) -> socket.socket:
    """`buffer` makes the client's side small, so that what it does not read stays with the service."""
    made = stack.enter_context(socket.socket())
    if buffer is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.settimeout(PATIENCE_SECONDS)
    made.connect(("127.0.0.1", process.port))
    return made


def resident(process: Process) -> int:
    pages = Path(f"/proc/{process.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def largest(process: Process) -> int:
    """What it has had resident at most."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def open_files(process: Process) -> int:
    return len(list(Path(f"/proc/{process.process.pid}/fd").iterdir()))


def queued(process: Process) -> set[float]:
    """Rows that wait, as the metrics say it."""
    lines = process.client.get("/metrics").text.splitlines()
    return {float(line.split()[-1]) for line in lines if line.startswith("hornpipe_queue_rows{")}


def ended(connection: socket.socket) -> bytes:
    """What came until the other side closed."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def answer_seconds(process: Process, sound: bytes) -> float:
    begun = perf_counter()
    assert process.client.post("/predict", content=sound).status_code == 200
    return perf_counter() - begun


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many as this process may have, which is more than it has unless it asks."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))


@pytest.mark.slow
def test_thousands_of_idle_connections_cost_little_and_are_closed(
    start: Start, sound: bytes, many_files: None, stack: ExitStack
) -> None:
    process = start(IDLE_SECONDS=60)
    answer_seconds(process, sound)
    files, before = open_files(process), resident(process)
    idle = [connect(process, stack) for _ in range(5000)]
    wait_until(lambda: open_files(process) >= files + 5000, "all are accepted")
    for each in idle[:1000]:  # some have asked before
        each.sendall(post(sound))
    assert all(each.recv(65536).startswith(b"HTTP/1.1 200") for each in idle[:1000])
    a_connection = (resident(process) - before) / 5000
    print(f"{a_connection:.0f} bytes a connection")
    wait_until(lambda: answer_seconds(process, sound) < 0.25, "an answer comes as quickly beside them")
    assert open_files(process) >= files + 5000
    wait_until(lambda: open_files(process) <= files + 10, "all are closed for standing still")

    assert a_connection < 20_000
    assert resident(process) < before + 60 * MEGABYTE


def test_bodies_of_the_past_are_not_kept_by_idle_connections(
    start: Start,
    sound: bytes,
    stack: ExitStack,
) -> None:
    process = start(IDLE_SECONDS=3600)
    answer_seconds(process, sound)
    large = post(sound[:-1] + b" " * 4 * MEGABYTE + b"}")
    first = connect(process, stack)
    first.sendall(large)
    assert first.recv(100).startswith(b"HTTP/1.1 200")
    before = resident(process)
    for _ in range(50):
        each = connect(process, stack)
        each.sendall(large)
        assert each.recv(100).startswith(b"HTTP/1.1 200")

    wait_until(lambda: resident(process) < before + 40 * MEGABYTE, "their memory is given back")


def test_more_connections_than_may_be_are_told_so(start: Start, sound: bytes, stack: ExitStack) -> None:
    process = start(MAX_CONNECTIONS=20)
    kept = [connect(process, stack) for _ in range(30)]
    refused = [ended(each) for each in kept[-5:]]

    assert all(each.startswith(b"HTTP/1.1 503") and b"too_many_connections" in each for each in refused)
    for each in kept:
        each.close()
    wait_until(lambda: process.status("/healthz") == 200, "there is room again")


# Requests that do not go on; the first of them is refused by its head alone.
HALF = (
    b"POST /models HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{",
    b"P",
    b"POST /predict HTTP/1.1\r\nhost",
    b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{",
    b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
)


@pytest.mark.slow
def test_requests_that_do_not_come_are_given_up_and_nobody_waits_for_that(
    start: Start, sound: bytes, stack: ExitStack
) -> None:
    process = start(RECEIVE_SECONDS=10, IDLE_SECONDS=3600)
    slow = [connect(process, stack) for _ in HALF]
    for each, sent in zip(slow, HALF, strict=True):
        each.sendall(sent)
    assert process.client.post("/predict", content=sound).status_code == 200
    assert select.select(slow[1:], [], [], 0)[0] == []  # all of them stand there still
    received = [ended(each) for each in slow]

    assert [each[:12] for each in received] == [b"HTTP/1.1 405", *[b"HTTP/1.1 408"] * (len(HALF) - 1)]
    assert all(each.count(b"HTTP/1.1") == 1 for each in received)


def test_drops_that_go_on_for_ever_are_given_up_too(start: Start, stack: ExitStack) -> None:
    """The slow loris: each byte comes in time, and the request never."""
    process = start(RECEIVE_SECONDS=1)
    slow = connect(process, stack)
    slow.settimeout(0.05)
    begun = perf_counter()
    slow.sendall(b"POST /predict HTTP/1.1\r\n")
    received = b""
    while not received and perf_counter() - begun < PATIENCE_SECONDS:
        try:
            slow.sendall(b"x: y\r\n")
            received = slow.recv(1000)
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            received = b"HTTP/1.1 408"

    assert received.startswith(b"HTTP/1.1 408")


@pytest.mark.slow
def test_who_asks_and_does_not_read_is_served_no_more_and_cut_off(
    start: Start,
    row: Row,
    stack: ExitStack,
) -> None:
    process = start(RECEIVE_SECONDS=10)
    many = json.dumps({"instances": [row] * 1000, "model": NAME}).encode()
    assert len(process.client.post("/predict", content=many).content) > 100_000
    before = resident(process)
    deaf = [connect(process, stack, buffer=4096) for _ in range(50)]
    one = post(many)
    for each in deaf:
        each.setblocking(False)

    def send_more() -> int:
        sent = 0
        for each in deaf:
            try:
                sent += each.send(one)
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                continue
        return sent

    for _ in range(200):
        send_more()
    most = resident(process)
    assert process.client.get("/healthz").status_code == 200
    for each in deaf:
        each.settimeout(PATIENCE_SECONDS)
    assert all(len(ended(each)) < 50 * MEGABYTE for each in deaf)
    print(f"resident {before / 1e6:.0f} -> {most / 1e6:.0f} MB with 50 clients that do not read")
    assert most < before + 150 * MEGABYTE
    assert process.client.post("/predict", content=many).status_code == 200


@pytest.mark.slow
def test_who_leaves_in_the_middle_costs_nothing(start: Start, row: Row, sound: bytes) -> None:
    process = start()
    many = post(json.dumps({"instances": [row] * 1000, "model": NAME}).encode())
    for length in (10, len(many) // 2, len(many)):  # in the head, in the body, in the answer
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", process.port)) as gone:
                gone.sendall(many[:length])
    after = []
    for _ in range(6):  # what many of them take at once is given back to nobody, but must not be taken again
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", process.port)) as gone:
                gone.sendall(many)
        process.client.post("/predict", content=sound)  # behind them, so their bodies have been there
        wait_until(lambda: queued(process) == {0.0}, "nobody waits any more")
        after.append(resident(process))

    assert process.client.post("/predict", content=sound).status_code == 200
    assert max(after[3:]) < max(after[:3]) + 100 * MEGABYTE  # all of three rounds would be 180
    assert "Traceback" not in process.log.read_text()
    assert queued(process) == {0.0}


@pytest.mark.slow
def test_half_sent_bodies_use_up_their_own_budget_and_no_more(
    start: Start,
    sound: bytes,
    stack: ExitStack,
) -> None:
    """The budget is shared: while it is used up others are told to come back, and get in again when it is free."""
    process = start(MAX_BUFFERED_BYTES=8 * MEGABYTE, RECEIVE_SECONDS=10)
    half = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n" + b" " * MEGABYTE
    greedy = [connect(process, stack) for _ in range(20)]
    senders = [threading.Thread(target=each.sendall, args=(half,)) for each in greedy]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()

    def status() -> int:
        return process.client.post("/predict", content=sound).status_code

    assert status() in (200, 503)
    wait_until(lambda: status() == 200, "the budget is free again")
    answers = [ended(each) for each in greedy]
    assert sum(answer.startswith(b"HTTP/1.1 503") for answer in answers) >= 10
    assert resident(process) < 400 * MEGABYTE


def test_a_client_that_is_slow_to_read_gets_all_of_its_answer(start: Start, row: Row, stack: ExitStack) -> None:
    process = start()
    many = json.dumps({"instances": [row] * 1000, "model": NAME}).encode()
    alone = httpx.post(f"{process.client.base_url}/predict", content=many, timeout=PATIENCE_SECONDS)
    expected = alone.json()["predictions"]
    slow = connect(process, stack, buffer=4096)
    slow.sendall(post(many, "connection: close"))
    received = b""
    while part := slow.recv(1000):
        received += part

    assert json.loads(received.partition(b"\r\n\r\n")[2])["predictions"] == expected


def test_what_large_bodies_took_is_given_back(start: Start, row: Row) -> None:
    process = start()
    body = json.dumps({"instances": [row] * 900, "model": NAME, "unknown": [row] * 5000}).encode()
    assert len(body) > MEGABYTE
    before = resident(process)
    with ExitStack() as stack:
        clients = [connect(process, stack) for _ in range(16)]
        for each in clients:
            each.sendall(post(body)[:-1])
        wait_until(lambda: resident(process) > before + 8 * len(body), "bodies are held")
        for each in clients:
            each.sendall(body[-1:])
        assert all(each.recv(12).endswith(b" 422") for each in clients)
    assert largest(process) - before > 16 * MEGABYTE
    wait_until(lambda: resident(process) < (before + largest(process)) / 2, "most of the memory is given back")
