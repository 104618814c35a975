"""Who is let in: by address, scope and origin; TLS; and what every answer says to browsers."""

import base64
import hashlib
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from service.access import keys
from service.access.guard import ALL_ELSE, RULES, Guard, is_loopback, require_safe
from service.app import create_app
from service.errors import Forbidden
from service.http import tls
from service.http.cors import Cors
from service.settings import Settings, SettingsError, from_environment
from tests.conftest import Serve
from tests.waiting import PATIENCE_SECONDS, wait_until

Row = dict[str, object]


class Pair(NamedTuple):
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


Certify = Callable[..., Pair]


@pytest.fixture
def certify(tmp_path: Path) -> Certify:
    """Make a certificate for 127.0.0.1 that vouches for itself, or that `by` vouches for."""

    def make(name: str, days: float = 30, by: Pair | None = None, password: bytes | None = None) -> Pair:
        private = ec.generate_private_key(ec.SECP256R1())
        subject = issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        signer = private
        if by is not None:
            issuer = x509.load_pem_x509_certificate(by.cert.read_bytes()).subject
            signer = serialization.load_pem_private_key(by.key.read_bytes(), None)
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
            .sign(signer, hashes.SHA256())
        )
        pair = Pair(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pair.cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
        )
        return pair

    return make


# Scopes


def test_every_path_of_the_application_has_a_rule_of_its_own() -> None:
    app = create_app(Settings())
    guard = app.state.front.guard
    paths = {*app.api().openapi()["paths"], "/openapi.json", "/docs"}
    without = [
        path for path in paths if not any(path == rule.path or path.startswith(f"{rule.path}/") for rule in RULES)
    ]

    assert without == []
    assert {path for path in paths if guard.needed("GET", path) is None} <= {
        *("/healthz", "/readyz", "/docs", "/ping", "/v2/health/live", "/v2/health/ready")
    }


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/predict", "predict"),
        ("GET", "/models/flights", "predict"),
        ("POST", "/models/flights/promote", "admin"),
        ("DELETE", "/models/flights", "admin"),
        ("POST", "/v1/models/flights:predict", "predict"),
        ("POST", "/v2/models/flights/infer", "predict"),
        ("POST", "/v2/repository/models/flights/unload", "admin"),
        ("GET", "/v2/health/live", None),
        ("GET", "/metrics", "metrics"),
        ("GET", "/healthz", None),
        ("GET", "/healthzz", "admin"),
        ("GET", "/", "admin"),
        ("GET", "", "admin"),
        ("OPTIONS", "*", "admin"),
        ("POST", "/jobs", "admin"),
        ("POST", "/jobs/alerts", "admin"),
        ("GET", "/docs/../models", None),  # no router makes a path of it that it is not
    ],
)
def test_the_scope_of_a_path(method: str, path: str, scope: str | None) -> None:
    assert Guard(Settings()).needed(method, path) == scope
    assert ALL_ELSE.read == ALL_ELSE.write == "admin"


def test_metrics_can_be_opened(serve: Serve, tmp_path: Path) -> None:
    keys.add(tmp_path / "keys.json", "a", ("predict",))
    client = serve(keys_file=tmp_path / "keys.json", open_metrics=True)

    assert client.get("/metrics").status_code == 200
    assert client.get("/models").status_code == 401


def test_without_keys_web_pages_do_not_what_admins_do() -> None:
    """A page that somebody reads could send such a request to the service on the reader's machine."""
    guard = Guard(Settings(cors_origins=("https://console.example",)))
    assert guard.of("POST", "/predict") is None
    ask = guard.of("POST", "/v2/repository/models/flights/unload")

    assert ask({}) == ""
    assert ask({b"origin": b"https://console.example"}) == ""
    for origin in (b"https://evil.example", b"null", b"http://127.0.0.1:8000"):
        with pytest.raises(Forbidden, match="web pages may not"):
            ask({b"origin": origin})


# Addresses


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.1", False),
        ("::ffff:8.8.8.8", False),
        ("no such host", False),
    ],
)
def test_what_only_this_machine_can_reach(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


def test_a_public_address_needs_keys_or_a_word(tmp_path: Path) -> None:
    require_safe(Settings())
    require_safe(Settings(host="0.0.0.0", keys_file=tmp_path / "keys.json"))
    require_safe(Settings(host="0.0.0.0", tls_cert=Path("c"), tls_client_ca=Path("ca")))
    require_safe(from_environment({"HORNPIPE_HOST": "0.0.0.0", "HORNPIPE_INSECURE": "1"}))
    with pytest.raises(SettingsError, match=r"0\.0\.0\.0 can be reached from other machines.*HORNPIPE_KEYS_FILE"):
        require_safe(Settings(host="0.0.0.0", tls_cert=Path("c")))


def test_settings_of_safety_are_checked() -> None:
    wrong = {
        "HORNPIPE_CORS_ORIGINS": "https://a.example/path, b.example",
        "HORNPIPE_ACCESS_LOG": "2",
        "HORNPIPE_LOG_FORMAT": "xml",
        "HORNPIPE_INSECURE": "perhaps",
    }
    with pytest.raises(SettingsError) as caught:
        from_environment(wrong)
    lines = sorted(str(caught.value).splitlines())

    assert [line.partition(":")[0] for line in lines] == sorted(wrong)
    assert "not https://a.example/path, b.example" in lines[1]
    with pytest.raises(SettingsError, match="HORNPIPE_TLS_KEY without HORNPIPE_TLS_CERT"):
        from_environment({"HORNPIPE_TLS_KEY": "key.pem"})
    assert from_environment({"HORNPIPE_CORS_ORIGINS": "https://a.example, http://b:1"}).cors_origins == (
        "https://a.example",
        "http://b:1",
    )
    assert "secret" not in repr(Settings(tls_cert=Path("c"), tls_key_password="secret"))


# Browsers


def test_web_pages_of_listed_origins_may_read_answers(serve: Serve, row: Row) -> None:
    client = serve(cors_origins=("https://a.example",))
    body = {"instances": [row]}
    for ask in (
        lambda **h: client.post("/predict", json=body, headers=h),
        lambda **h: client.get("/models", headers=h),
    ):
        good, bad, none = ask(origin="https://a.example"), ask(origin="https://a.example.evil"), ask()
        assert good.headers["access-control-allow-origin"] == "https://a.example"
        assert "x-request-id" in good.headers["access-control-expose-headers"]
        assert all("access-control-allow-origin" not in other.headers for other in (bad, none))
        assert all(each.headers["vary"] == "origin" for each in (good, bad, none))
        assert {each.status_code for each in (good, bad, none)} == {200}


@pytest.mark.parametrize("path", ["/predict", "/models", "/nowhere"])
def test_browsers_that_ask_first_are_answered_without_a_key(serve: Serve, tmp_path: Path, path: str) -> None:
    keys.add(tmp_path / "keys.json", "a", ("predict",))
    client = serve(keys_file=tmp_path / "keys.json", cors_origins=("https://a.example",))
    asked = {"origin": "https://a.example", "access-control-request-method": "POST"}
    good = client.options(path, headers=asked)
    bad = client.options(path, headers=asked | {"origin": "https://b.example"})

    assert (good.status_code, good.content) == (204, b"")
    assert "authorization" in good.headers["access-control-allow-headers"]
    assert "access-control-allow-headers" not in bad.headers
    assert client.options(path).status_code in (401, 405)


def test_any_origin() -> None:
    anybody = Cors(("*",))

    assert anybody.headers({b"origin": b"https://x"})[0] == (b"access-control-allow-origin", b"*")


def test_without_a_list_nothing_is_said_to_pages_of_others(client: httpx.Client, row: Row) -> None:
    answer = client.post("/predict", json={"instances": [row]}, headers={"origin": "https://a.example"})

    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/predict", "/models", "/nowhere", "/docs", "/metrics", "/%00"])
def test_every_answer_is_nobodys_to_keep_or_to_guess_about(client: httpx.Client, path: str) -> None:
    answer = client.get(path)

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", answer.headers["x-request-id"])
    assert "strict-transport-security" not in answer.headers
    given = client.get(path, headers={"x-request-id": "mine.1"}).headers.get_list("x-request-id")
    assert given == ["mine.1"]


@pytest.mark.parametrize("wrong", ["a b", "é", "a\tb", "x" * 129, "<script>", ""])
def test_an_id_that_cannot_be_written_down_anywhere_is_not_taken(client: httpx.Client, wrong: str) -> None:
    for path in ("/predict", "/models"):
        answer = client.get(path, headers={"x-request-id": wrong.encode()})
        assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", answer.headers["x-request-id"])


def test_the_page_runs_its_own_script_and_nothing_else(client: httpx.Client) -> None:
    page = client.get("/docs")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for tag in ("script", "style"):
        (inside,) = re.findall(f"<{tag}[^>]*>(.*?)</{tag}>", page.text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"

    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert not re.findall(r"(?:src|href)=|https?://|innerHTML|\son\w+=", page.text)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_shows_the_page(client: httpx.Client, tmp_path: Path) -> None:
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    command += ["--virtual-time-budget=10000", "--dump-dom", f"{client.base_url}/docs"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    assert '<span class="path">/predict</span>' in shown.stdout
    assert "departure_minute" in shown.stdout
    assert "Content Security Policy" not in shown.stderr


# TLS


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_https(serve: Serve, certify: Certify, row: Row) -> None:
    pair = certify("server")
    client = serve(tls_cert=pair.cert, tls_key=pair.key)
    for answer in (client.post("/predict", json={"instances": [row]}), client.get("/models")):
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection((client.base_url.host, client.base_url.port)) as plain,
        pytest.raises(ssl.SSLError),
    ):
        old.wrap_socket(plain)


def test_a_renewed_certificate_is_shown_without_a_restart(serve: Serve, certify: Certify) -> None:
    pair = certify("server")
    client = serve(tls_cert=pair.cert, tls_key=pair.key)
    address = (client.base_url.host, client.base_url.port)
    before = ssl.get_server_certificate(address)
    pair.key.write_bytes(b"half of a new ke")
    renewed = certify("renewed")
    renewed.cert.replace(pair.cert)
    assert ssl.get_server_certificate(address) == before
    renewed.key.replace(pair.key)

    wait_until(lambda: ssl.get_server_certificate(address) != before, "the new one is shown")


def test_clients_need_a_certificate_where_an_authority_is_given(serve: Serve, certify: Certify) -> None:
    server, authority, other = certify("server"), certify("authority"), certify("other")
    known, unknown = certify("known", by=authority), certify("unknown", by=other)
    url = serve(ready=False, tls_cert=server.cert, tls_key=server.key, tls_client_ca=authority.cert).base_url

    def status(pair: Pair | None) -> int | None:
        context = ssl.create_default_context(cafile=server.cert)
        if pair is not None:
            context.load_cert_chain(*pair)
        try:
            return httpx.get(f"{url}/healthz", verify=context, timeout=PATIENCE_SECONDS).status_code
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            return None

    assert [status(pair) for pair in (known, unknown, None)] == [200, None, None]


def test_what_is_wrong_with_a_certificate(certify: Certify, tmp_path: Path) -> None:
    good, other, over = certify("good"), certify("other"), certify("over", days=-1)
    locked = certify("locked", password=b"sesame")

    def made(cert: Path, key: Path | None = None, **settings: object) -> tls.Certificate:
        return tls.Certificate(Settings(tls_cert=cert, tls_key=key, **settings))

    assert made(*good).expires() == x509.load_pem_x509_certificate(good.cert.read_bytes()).not_valid_after_utc
    assert made(*locked, tls_key_password="sesame").expires() > datetime.now(UTC)
    for cert, key, message in (
        (good.cert, other.key, "is not that of"),
        (tmp_path / "none", good.key, "none: No such file"),
        (good.key, good.key, "no certificate and its key"),
        (locked.cert, locked.key, "HORNPIPE_TLS_KEY_PASSWORD does not open"),
    ):
        with pytest.raises(SettingsError, match=message):
            made(cert, key)
    with pytest.raises(SettingsError, match="certificate has expired"):
        made(*over).expires()
    with pytest.raises(SettingsError, match="no list of certificates"):
        made(*good, tls_client_ca=good.key)
