"""`hornpipe serve --check`: everything that is wrong, at once, and 2; or 0."""

import gc
import os
import signal
import socket
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hornpipe import main
from service.access import keys
from service.check import Finding, check
from tests.conftest import NAME
from tests.ports import free_port
from tests.service.access.test_guard import Certify, certify  # noqa: F401  # a fixture

Environment = dict[str, str]


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`hornpipe serve` makes of its process what a server needs; here it is that of all tests to come."""
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "__all__")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
    gc.enable()


@pytest.fixture
def environment(models: Path) -> Environment:
    return {"HORNPIPE_MODELS_DIR": str(models), "HORNPIPE_PORT": "0"}


def found(environment: Environment, about: str, verdict: str) -> list[str]:
    return [text for kind, what, text in check(environment) if (kind, what) == (verdict, about)]


def wrong(environment: Environment) -> list[Finding]:
    return [finding for finding in check(environment) if finding.verdict == "wrong"]


def test_nothing_is_wrong(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert main(["serve", "--check"]) == 0
    said = capsys.readouterr().out
    assert f"{NAME}/1: verified, loaded and proven" in said
    assert said.endswith("nothing is wrong\n")


def test_everything_that_is_wrong_at_once(
    environment: Environment,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    (models / NAME / "1" / "saved_model.pb").write_bytes(b"altered")
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        environment |= {
            "HORNPIPE_PORT": str(taken.getsockname()[1]),
            "HORNPIPE_HOST": "0.0.0.0",
            "HORNPIPE_MAX_ROW": "5",
            "HORNPIPE_TLS_CERT": str(tmp_path / "none.pem"),
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert main(["serve", "--check"]) == 2
    said = capsys.readouterr().out
    about = [line.split()[1] for line in said.splitlines() if line.startswith("wrong")]

    assert about == ["settings", "address", "port", "certificate", "models", "traces"]
    assert "did you mean HORNPIPE_MAX_ROWS?" in said
    assert "saved_model.pb: has 7 bytes" in said
    assert said.endswith("6 wrong\n")


def test_keys(environment: Environment, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    environment["HORNPIPE_KEYS_FILE"] = str(file)
    assert [finding.about for finding in wrong(environment)] == ["keys"]
    keys.add(file, "old", ("predict",), expires=datetime.now(UTC) - timedelta(days=1))
    assert "no key is in force" in found(environment, "keys", "wrong")[0]
    keys.add(file, "new", ("predict",))
    assert found(environment, "keys", "ok") == ["1 in force"]
    assert found(environment, "keys", "note") == ["the time of these is over: old"]
    file.chmod(0o666)
    assert "can make keys" in found(environment, "keys", "note")[1]


def test_certificates(environment: Environment, certify: Certify) -> None:  # noqa: F811
    def shown(days: float) -> tuple[str, str]:
        pair = certify(f"days{days}", days)
        given = environment | {"HORNPIPE_TLS_CERT": str(pair.cert), "HORNPIPE_TLS_KEY": str(pair.key)}
        ((verdict, _, text),) = [finding for finding in check(given) if finding.about == "certificate"]
        return verdict, text

    assert shown(30)[0] == "ok"
    assert shown(3)[0] == "note"
    assert shown(-1)[0] == "wrong"
    assert "expired" in shown(-2)[1]


def test_models(environment: Environment, models: Path, tmp_path: Path) -> None:
    environment["HORNPIPE_MODELS"] = f"{NAME},trains"
    assert [text for _, _, text in wrong(environment)] == [f"HORNPIPE_MODELS: no trains in {models}"]
    del environment["HORNPIPE_MODELS"]
    models.chmod(models.stat().st_mode | stat.S_IWOTH)
    assert "can exchange the models" in found(environment, "models", "note")[0]
    (models / NAME / "routing.json").write_text("{")
    assert "routing.json cannot be read" in wrong(environment)[0].text
    (models / NAME / "routing.json").unlink()
    assert "no version is in production" in found(environment, "models", "note")[0]
    (tmp_path / "empty").mkdir()
    assert "is empty" in found(environment | {"HORNPIPE_MODELS_DIR": str(tmp_path / "empty")}, "models", "note")[0]
    assert "no such folder" in wrong(environment | {"HORNPIPE_MODELS_DIR": "/none"})[0].text


def test_a_runtime_that_is_not_to_be_had(environment: Environment) -> None:
    given = environment | {"HORNPIPE_RUNTIME": "litert", "HORNPIPE_DEVICE": "gpu"}

    assert "runtime" in [finding.about for finding in wrong(given)]


def test_it_listens_on_nothing_afterwards(environment: Environment) -> None:
    port = free_port()
    environment["HORNPIPE_PORT"] = str(port)

    assert found(environment, "port", "ok") == [f"127.0.0.1:{port} is free"] * 1
    assert found(environment, "port", "ok") == [f"127.0.0.1:{port} is free"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(environment: Environment, models: Path) -> None:
    models.chmod(0)
    try:
        assert "may not be read" in wrong(environment)[0].text
    finally:
        models.chmod(0o755)


def test_where_predictions_are_kept_and_that_no_feature_is_misspelt(environment: Environment, tmp_path: Path) -> None:
    assert not [finding for finding in check(environment) if finding.about == "predictions"]
    redact = {"HORNPIPE_PREDICTIONS_REDACT": "carrier, orgin"}
    assert "nothing is redacted" in found(environment | redact, "predictions", "note")[0]
    environment |= redact | {"HORNPIPE_PREDICTIONS_DIR": str(tmp_path / "some" / "log")}
    (text,) = found(environment, "predictions", "wrong")
    assert text.endswith("no model has a feature called orgin")
    kept = environment | {"HORNPIPE_PREDICTIONS_REDACT": "carrier", "HORNPIPE_PREDICTIONS_BYTES": str(2**20)}
    assert found(kept, "predictions", "ok") == [f"{tmp_path}/some/log: 100% of the requests are kept"]
    assert "are free" in found(kept | {"HORNPIPE_PREDICTIONS_BYTES": str(2**60)}, "predictions", "note")[0]
    (tmp_path / "some").touch()
    assert "may not be written to" in found(kept, "predictions", "wrong")[0]
    assert not (tmp_path / "some" / "log").exists()


def test_hashes_without_a_salt_are_wrong(environment: Environment) -> None:
    (text,) = found(environment | {"HORNPIPE_PREDICTIONS_HASH": "carrier"}, "settings", "wrong")

    assert "HORNPIPE_PREDICTIONS_SALT of at least 16 characters" in text
