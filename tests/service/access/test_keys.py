"""Keys: made, kept as hashes, asked for, limited, revoked and renewed, on hot paths and on the others alike."""

import json
import socket
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from hornpipe import main
from service.access import keys
from service.access.keys import Keys, KeysError, StoredKey
from service.access.rate import Bucket
from tests.conftest import Serve
from tests.service.cost import cost
from tests.waiting import PATIENCE_SECONDS, wait_until

Row = dict[str, object]
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def ask(client: httpx.Client, row: Row, **headers: str) -> httpx.Response:
    return client.post("/predict", json={"instances": [row]}, headers=headers)


def test_a_key_is_found_by_what_was_sent_and_the_file_has_its_hash_alone(file: Path) -> None:
    made = [keys.add(file, name, ("predict",)) for name in ("a", "b")]
    found = Keys(keys.read(file))

    assert [found.find(key.encode()).name for key in made] == ["a", "b"]
    assert len({*made}) == 2
    assert all(len(key) >= len("hornpipe_") + 43 for key in made)  # 256 bits, six in a character
    for wrong in (b"", made[0][:-1].encode(), made[0].encode() + b" ", made[0].upper().encode(), b"x" * 100_000):
        assert found.find(wrong) is None
    assert not any(key.removeprefix("hornpipe_") in file.read_text() for key in made)
    assert file.stat().st_mode & 0o777 == 0o600


def test_expiry(file: Path) -> None:
    over = keys.add(file, "over", ("predict",), expires=datetime.now(UTC) - timedelta(seconds=1))
    holds = keys.add(file, "holds", ("predict",), expires=datetime.now(UTC) + timedelta(hours=1))
    found = Keys(keys.read(file))

    assert found.find(over.encode()) is None
    assert found.find(holds.encode()).name == "holds"


def test_what_cannot_be_a_key_is_refused_and_changes_nothing(file: Path) -> None:
    keys.add(file, "a", ("predict",))
    before = file.read_bytes()
    with pytest.raises(KeysError, match="there is a key named 'a' already"):
        keys.add(file, "a", ("admin",))
    with pytest.raises(KeysError, match=r"name: .*letters"):
        keys.add(file, "a\nb", ("admin",))
    with pytest.raises(KeysError, match=r"requests_per_second: .*greater than 0"):
        keys.add(file, "b", ("predict",), requests_per_second=-1)
    with pytest.raises(KeysError, match="no key named 'c'; keys: a"):
        keys.revoke(file, "c")

    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file: Invalid JSON"),
        (b"{}", "keys: Field required"),
        (b"\xff\xfe", "the file: Invalid JSON"),
        (b'{"keys": [{"name": "a", "sha256": "' + b"0" * 63 + b'"}]}', "keys.0.sha256"),
        (b'{"keys": [], "key": "hornpipe_secret"}', "key: Extra inputs"),
        (b" " * (keys.MOST_FILE_BYTES + 1), "more than"),
    ],
)
def test_a_file_that_is_none_is_refused_without_telling_what_is_in_it(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(KeysError, match=message) as caught:
        keys.read(file)

    assert "hornpipe_secret" not in str(caught.value)


def test_changes_at_once_lose_none(file: Path) -> None:
    names = [f"key{i}" for i in range(20)]
    threads = [threading.Thread(target=keys.add, args=(file, name, ("predict",))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(key.name for key in keys.read(file).keys) == sorted(names)


def test_the_same_name_or_hash_twice_is_no_file(file: Path) -> None:
    one = StoredKey(name="a", sha256="0" * 64, scopes=("predict",), created=CREATED)
    for other in (one.model_copy(update={"name": "b"}), one.model_copy(update={"sha256": "1" * 64})):
        rows = [json.loads(each.model_dump_json()) for each in (one, other)]
        file.write_text(json.dumps({"keys": rows}))
        with pytest.raises(KeysError, match="twice"):
            keys.read(file)


@pytest.mark.parametrize(("rate", "burst"), [(5.0, 5), (0.5, 1), (100.0, 250), (3.0, 10)])
def test_a_bucket_gives_its_burst_and_then_its_rate(rate: float, burst: int) -> None:
    """Asked a thousand times a second for a minute: the burst, and what has flowed in since."""
    bucket = Bucket(rate, burst)
    given = [now / 1000 for now in range(60_000) if not bucket.take(now / 1000)]

    assert len(given) == pytest.approx(burst + 60 * rate, abs=1)
    assert sum(now == 0 for now in given) <= 1
    while not (wait := bucket.take(60.0)):
        pass
    assert not bucket.take(60.0 + wait + 1e-6)


def test_what_keys_cost(file: Path) -> None:
    """Less than 3 microseconds of a hot request's hundred; here with room for a machine that is busy."""
    made = keys.add(file, "a", ("predict",), requests_per_second=1e6).encode()
    found = Keys(keys.read(file))

    assert cost(lambda: found.find(made), 500) < 2


def test_both_headers_on_every_path(serve: Serve, file: Path, row: Row) -> None:
    key = keys.add(file, "a", ("predict",))
    client = serve(keys_file=file)

    for headers in (bearer(key), {"authorization": f"bearer  {key}"}, {"x-api-key": key}):
        assert ask(client, row, **headers).status_code == 200
        assert client.get("/models", headers=headers).status_code == 200
    for headers in ({}, bearer(key[:-1]), {"x-api-key": ""}, {"authorization": f"Basic {key}"}):
        for refused in (ask(client, row, **headers), client.get("/models", headers=headers)):
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == 'Bearer realm="hornpipe"'
            assert refused.json()["error"]["code"] == "unauthenticated"
            assert refused.json()["request_id"] == refused.headers["x-request-id"]


def test_scopes(serve: Serve, file: Path, row: Row) -> None:
    made = {scope: keys.add(file, scope, (scope,)) for scope in keys.SCOPES}
    client = serve(keys_file=file)
    paths = {"/models": {"predict", "admin"}, "/metrics": {"metrics", "admin"}, "/nowhere": {"admin"}}
    for path, allowed in paths.items():
        for scope, key in made.items():
            status = client.get(path, headers=bearer(key)).status_code
            assert (status == 403) == (scope not in allowed), (path, scope)
    predicting = {scope: ask(client, row, **bearer(key)).status_code for scope, key in made.items()}

    assert predicting == {"predict": 200, "feedback": 403, "admin": 200, "metrics": 403}
    assert client.post("/models", headers=bearer(made["predict"])).status_code == 403
    for path in ("/healthz", "/readyz", "/docs"):
        assert client.get(path).status_code == 200


def test_who_may_not_ask_is_told_before_sending(serve: Serve, file: Path) -> None:
    """So nobody without a key can make us hold bodies; who asks first whether to go on is not told so either."""
    keys.add(file, "a", ("predict",))
    url = serve(keys_file=file).base_url
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n"
    for expects in (b"", b"expect: 100-continue\r\n"):
        with socket.create_connection((url.host, url.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(head + expects + b"\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 401 Unauthorized\r\n")


def test_a_rate_is_kept_and_429_says_when_to_come_back(serve: Serve, file: Path, row: Row) -> None:
    limited = keys.add(file, "limited", ("predict",), requests_per_second=0.001, burst=3)
    free = keys.add(file, "free", ("predict",))
    client = serve(keys_file=file)
    answers = [ask(client, row, **bearer(limited)) for _ in range(5)]

    assert Counter(answer.status_code for answer in answers) == {200: 3, 429: 2}
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 1000
    assert answers[-1].json()["error"]["code"] == "rate_limited"
    assert client.get("/models", headers=bearer(limited)).status_code == 429
    assert ask(client, row, **bearer(free)).status_code == 200


def test_changes_of_the_file_are_taken_without_a_restart(serve: Serve, file: Path, row: Row) -> None:
    first = keys.add(file, "first", ("predict",))
    client = serve(keys_file=file)

    def status(key: str) -> int:
        return ask(client, row, **bearer(key)).status_code

    assert status(first) == 200
    second = keys.add(file, "second", ("predict",))
    wait_until(lambda: status(second) == 200, "a new key opens")
    keys.revoke(file, "first")
    wait_until(lambda: status(first) == 401, "a revoked key does not open any more")
    assert status(second) == 200


def test_a_broken_or_missing_file_keeps_the_keys(
    serve: Serve, file: Path, row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    key = keys.add(file, "a", ("predict",))
    sound = file.read_bytes()
    client = serve(keys_file=file)
    for spoil in (lambda: file.write_bytes(sound[:50]), file.unlink):
        caplog.clear()
        spoil()
        wait_until(lambda: "the keys stay as they were" in caplog.text, "the log says so")
        assert ask(client, row, **bearer(key)).status_code == 200
        assert ask(client, row).status_code == 401
    caplog.set_level("INFO")
    file.write_bytes(sound.replace(b'"a"', b'"b"'))
    wait_until(lambda: "1 keys are in force" in caplog.text, "a sound one is taken again")


def test_a_key_that_stays_keeps_what_is_left_of_its_rate(file: Path) -> None:
    """Else whoever can have the file touched could ask without a limit."""
    limited = keys.add(file, "limited", ("predict",), requests_per_second=0.001, burst=1).encode()
    before = Keys(keys.read(file))
    assert before.find(limited).bucket.take(0.0) == 0
    keys.add(file, "other", ("predict",))
    after = before.renewed(keys.read(file))

    assert after.find(limited).bucket.take(0.0) > 0
    assert len(after) == 2


def test_the_command_makes_lists_and_revokes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["keys", "add", "board", "--scope", "predict", "--scope", "metrics", "--days", "7", "--rate", "50"]
    assert main([*arguments, "--file", str(file)]) == 0
    key = capsys.readouterr().out.strip()
    assert Keys(keys.read(file)).find(key.encode()).scopes == {"predict", "metrics"}
    assert main(["keys", "list", "--file", str(file)]) == 0
    listed = capsys.readouterr().out
    assert "board  predict metrics" in listed
    assert "50" in listed
    assert key not in listed
    assert main(["keys", "revoke", "board", "--file", str(file)]) == 0
    assert keys.read(file).keys == ()
    assert main(["keys", "revoke", "board", "--file", str(file)]) == 1
    assert main(["keys", "add", "--file", str(file)]) == 1
    assert main(["keys", "list"]) == 1


def test_rights_of_a_file_that_is_there_are_kept(file: Path) -> None:
    keys.add(file, "a", ("predict",))
    file.chmod(0o640)
    keys.add(file, "b", ("predict",))

    assert file.stat().st_mode & 0o777 == 0o640
