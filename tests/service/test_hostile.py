"""Nothing that is sent ends the service, makes it say 5xx, or stays in its memory; afterwards it answers as before."""

import itertools
import json
import os
import random
import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from contract import routing
from tests import kinds
from tests.conftest import NAME, Trained
from tests.corpus import bodies, wire
from tests.corpus.bodies import Body
from tests.corpus.wire import post
from tests.service.gate import HOUR_MS
from tests.test_server import Process
from tests.waiting import PATIENCE_SECONDS, wait_until

MEGABYTE = 2**20
# Busy, and too late, are answers that a service may give to anybody; the others above 500 are its own faults.
BUSY = {503, 504}
PATHS = (
    *("/predict", "/v1/models/flights:predict", "/v1/models/flights:classify", "/v1/models/digits:predict"),
    *("/v2/models/flights/infer", "/v2/models/digits/infer", "/invocations", "/v2/repository/index"),
)

OCTETS = "application/octet-stream"
MEDIA = (*["application/json"] * 4, OCTETS, "text/csv", "application/jsonlines", "application/x-npy")


@pytest.fixture(scope="module")
def hosted(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service as people run it, with a table and pictures to ask about."""
    import shutil

    folder = tmp_path_factory.mktemp("hostile")
    models = folder / "models"
    shutil.copytree(trained.models, models)
    routing.promote(models, NAME, 1, by="test", why="test")
    kinds.put(kinds.made(tmp_path_factory, "digits")["digits"], models)
    process = Process(models, folder / "log", TIMEOUT_MS=HOUR_MS)
    try:
        wait_until(lambda: process.status("/readyz") == 200, "it is ready")
        yield process
    finally:
        process.client.close()
        process.process.kill()
        process.process.wait()


@pytest.fixture(scope="module")
def hostile(trained: Trained) -> list[Body]:
    """The corpus of bodies; some take long to make."""
    return bodies.corpus(dict(trained.bundle.manifest.golden[0].row))


@pytest.fixture
def sound(row: dict[str, object]) -> bytes:
    """A body that gets 200."""
    return json.dumps({"instances": [row], "model": NAME}).encode()


@pytest.fixture(autouse=True)
def answers_afterwards(hosted: Process, sound: bytes) -> Iterator[None]:
    """Whatever came, the same service goes on answering, and has no fault of its own in its log."""
    expected = hosted.client.post("/predict", content=sound).json()["predictions"]
    yield
    assert hosted.process.poll() is None
    assert hosted.client.post("/predict", content=sound).json()["predictions"] == expected
    assert "Traceback" not in hosted.log.read_text()


def resident(process: Process) -> int:
    """Bytes."""
    pages = Path(f"/proc/{process.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Line:
    """A connection that is kept, for requests by the thousand."""

    def __init__(self, process: Process) -> None:
        self._address = ("127.0.0.1", process.port)
        self._socket: socket.socket | None = None

    def ask(self, sent: bytes, head: bool = False, tries: int = 2) -> int:
        """The status of the answer; one try is on the connection that is there."""
        for _ in range(tries):
            if self._socket is None:
                self._socket = socket.create_connection(self._address, timeout=PATIENCE_SECONDS)
                self._file = self._socket.makefile("rb")
            with suppress(BrokenPipeError, ConnectionResetError):  # it may answer and go while we are sending
                self._socket.sendall(sent)
            answer = self.read(head)
            if answer is not None:
                return answer
            self.close()  # it was closed after the answer before
        raise AssertionError(f"no answer to {sent[:200]!r}")

    def read(self, head: bool = False) -> int | None:
        """The next answer's status; None when there is none."""
        try:
            first = self._file.readline()
            if not first:
                return None
            length = 0
            while line := self._file.readline().strip().lower():
                if line.startswith(b"content-length:"):
                    length = int(line[15:])
            content = b"" if head else self._file.read(length)
        except ConnectionResetError:
            return None
        assert b"Traceback" not in content
        return int(first.split()[1])

    def close(self) -> None:
        if self._socket is not None:
            self._file.close()
            self._socket.close()
            self._socket = None


def request(path: str, body: Body) -> bytes:
    named = body.headers | {"x-amzn-sagemaker-custom-attributes": f"tfs-model-name={NAME}"}  # else two would answer
    headers = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(body.content)}\r\n\r\n"
    return head.encode("latin-1") + body.content


def faults(answers: dict[str, int]) -> dict[str, int]:
    return {name: status for name, status in answers.items() if status >= 500 and status not in BUSY}


def test_every_body_on_some_path(hosted: Process, hostile: list[Body]) -> None:
    """Each on one of the paths in turn."""
    line = Line(hosted)
    turns = zip(itertools.cycle(PATHS), hostile, strict=False)
    answers = {f"{path} {body.name}": line.ask(request(path, body)) for path, body in turns}
    line.close()

    assert faults(answers) == {}
    assert len(answers) > 800
    assert resident(hosted) < 700 * MEGABYTE


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_every_body_on_every_path(hosted: Process, hostile: list[Body], path: str) -> None:
    line = Line(hosted)
    answers = {body.name: line.ask(request(path, body)) for body in hostile}
    line.close()

    assert faults(answers) == {}
    assert resident(hosted) < 700 * MEGABYTE


def wires() -> list[str]:
    return [each.name for each in wire.corpus(b"{}")]


@pytest.mark.parametrize("name", wires())
def test_bytes_that_are_not_quite_http(hosted: Process, sound: bytes, name: str) -> None:
    (case,) = [each for each in wire.corpus(sound) if each.name == name]
    line = Line(hosted)
    statuses = [line.ask(case.sent, head=0 in case.heads)]
    statuses += [line.read(head=i in case.heads) for i in range(1, len(case.statuses))]
    if case.statuses:
        assert tuple(statuses) == case.statuses
    else:
        assert 400 <= statuses[0] < 500
    if case.ends:
        assert line.read() is None
    else:  # nothing was left behind that would be taken for part of the next request
        assert line.ask(post(sound), tries=1) == 200
    line.close()


def test_a_head_is_as_large_in_pieces_as_in_one(hosted: Process, sound: bytes) -> None:
    """Each piece is less than a head may have."""
    head = post(sound, "x: " + "a" * 40 * 1024)
    with socket.create_connection(("127.0.0.1", hosted.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(head[:30_000])
        assert hosted.client.post("/predict", content=sound).status_code == 200  # so it has been read by now
        connection.sendall(head[30_000:])
        assert connection.recv(12) == b"HTTP/1.1 431"


def mutations(seed: int, sound: list[bytes]) -> Iterator[bytes]:
    """Sound requests with something changed, left out, doubled, or put in from another: the same for a seed."""
    chance = random.Random(seed)
    pieces = [b"\0", b"\xff", b'"', b"{", b"[", b"]", b"}", b",", b"e", b"-", b"9" * 30, b"null", b"NaN", b"\\u", b"\\"]
    while True:
        body = bytearray(chance.choice(sound))
        for _ in range(chance.choice((0, 1, 1, 2, 5, 20))):
            at, to = sorted(chance.choices(range(len(body) + 1), k=2))
            match chance.randrange(6):
                case 0:
                    body[at:at] = chance.choice(pieces)
                case 1:
                    del body[at : min(to, at + 30)]
                case 2:
                    body[at:at] = body[at : min(to, at + 300)]
                case 3 if body:
                    body[at % len(body)] ^= 1 << chance.randrange(8)
                case 4:
                    other = chance.choice(sound)
                    body[at:to] = other[at:to]
                case _:
                    body[at:at] = chance.choice(pieces) * chance.randrange(1, 50)
        yield bytes(body)


def seeds(row: dict[str, object]) -> list[bytes]:
    """Sound bodies of every protocol."""
    tensors = [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]
    picture = {"b64": "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAADElEQVR4nGNgGB4AAADIAAGtGnePAAAAAElFTkSuQmCC"}
    documents = [
        {"instances": [row]},
        {"instances": [row] * 3, "model": NAME, "version": 1},
        {"inputs": {name: [value] for name, value in row.items()}},
        {"inputs": tensors, "outputs": [{"name": "probability"}], "id": "1"},
        {"instances": [{"picture": picture}], "model": "digits"},
        {"instances": [[[[0] for _ in range(8)] for _ in range(8)]], "signature_name": "serving_default"},
    ]
    return [json.dumps(document).encode() for document in documents]


def flood(hosted: Process, row: dict[str, object], seed: int, count: int) -> Counter[int]:
    """Statuses of as many mutated requests, over all paths and media in turn."""
    line, answers = Line(hosted), Counter[int]()
    turns = list(itertools.product(MEDIA, PATHS))
    for turn, content in zip(range(count), mutations(seed, seeds(row)), strict=False):
        kind, path = turns[turn % len(turns)]
        headers = {"content-type": kind}
        if kind == OCTETS:
            headers["inference-header-content-length"] = str(len(content) // 2)
        answers[line.ask(request(path, Body("", content, headers)))] += 1
    line.close()
    return answers


def test_thousands_of_mutated_requests(hosted: Process, row: dict[str, object]) -> None:
    answers = flood(hosted, row, seed=1, count=4000)

    assert not {status for status in answers if status >= 500 and status not in BUSY}
    assert len(answers) >= 3
    assert answers[200] > 10


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_a_hundred_thousand_mutated_requests_leave_nothing_in_memory(hosted: Process, row: dict[str, object]) -> None:
    answers = flood(hosted, row, seed=2, count=20_000)
    before = resident(hosted)
    answers += flood(hosted, row, seed=3, count=80_000)
    print(sorted(answers.items()), f"resident {before / 1e6:.0f} -> {resident(hosted) / 1e6:.0f} MB")

    assert answers.total() == 100_000
    assert not {status for status in answers if status >= 500 and status not in BUSY}
    assert resident(hosted) < 1.05 * before + 5 * MEGABYTE


def schema_cases(hosted: Process, examples: int) -> Counter[int]:
    """What schemathesis makes of the service's own description; each answer's status, and none that breaks it."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

    schema = schemathesis.openapi.from_url(f"{hosted.client.base_url}/openapi.json", timeout=PATIENCE_SECONDS)
    checks = [not_a_server_error, content_type_conformance, status_code_conformance]
    answers = Counter[int]()
    for operation in (found.ok() for found in schema.get_all_operations()):
        negative = [GenerationMode.NEGATIVE] if operation.body else []  # of a name, nothing is wrong but that it is not
        for mode in (GenerationMode.POSITIVE, *negative):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=examples,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def ask(case: object) -> None:
                answer = case.call(timeout=PATIENCE_SECONDS)
                answers[answer.status_code] += 1
                if answer.status_code not in BUSY:
                    case.validate_response(answer, checks=checks)

            ask()
    return answers


def test_what_its_own_schema_allows_and_forbids(hosted: Process) -> None:
    answers = schema_cases(hosted, examples=8)

    assert answers.total() > 60
    assert answers[200] > 0


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_what_its_own_schema_allows_and_forbids_at_length(hosted: Process) -> None:
    answers = schema_cases(hosted, examples=1000)
    print(sorted(answers.items()))

    assert answers.total() > 2000


def test_no_answer_tells_of_files_or_libraries(hosted: Process, hostile: list[Body]) -> None:
    """Of what is refused, the client learns what it sent, and nothing of where that came."""
    for body in hostile[::7]:
        for path in PATHS[:3]:
            try:
                answer = hosted.client.post(path, content=body.content, headers=body.headers)
            except httpx.LocalProtocolError:
                continue  # httpx does not send such headers
            said = answer.text.replace("/etc/passwd", "")
            assert not re.search(r"/work/|/usr/|/tmp/|site-packages|\.py\b|0x[0-9a-f]{8}|Exception", said), body.name


def test_the_corpus_has_no_name_twice(hostile: list[Body]) -> None:
    for names in (wires(), [body.name for body in hostile]):
        assert sorted(names) == sorted(set(names))
