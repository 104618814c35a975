"""HTTPS: the certificate that is shown, renewed without a restart, and whether it is any good."""

import logging
import ssl
from datetime import UTC, datetime
from pathlib import Path

from service.settings import Settings, SettingsError

log = logging.getLogger("hornpipe.tls")


class Certificate:
    """The certificate of a server. TLS 1.2 and later; with a client authority, nobody comes in without its word."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError when a file cannot be read, or the key is not the certificate's."""
        assert settings.tls_cert is not None  # noqa: S101  # `of` sees to it
        self._cert, self._key = settings.tls_cert, settings.tls_key or settings.tls_cert
        password = settings.tls_key_password
        self._password = password.get_secret_value() if password else ""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(self.context)
        if settings.tls_client_ca is not None:
            _load_authority(self.context, settings.tls_client_ca)
        self._state = self._files()

    def refresh(self) -> None:
        """Show the new certificate to whoever connects from now on, if it has changed and is good."""
        if (state := self._files()) == self._state:
            return
        self._state = state
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # half a change must not reach the one in use
            self._load(self.context)
        except SettingsError as error:
            log.error("the certificate stays as it was: %s", error)
        else:
            log.info("the certificate was renewed")

    def expires(self) -> datetime:
        """When it ends. Raises SettingsError when it has ended, or has not begun."""
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.load_verify_locations(cadata=_first(self._cert))
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it vouches for itself: only its time is looked at
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load(plain)
        try:
            facts = _shake_hands(plain, client)
        except ssl.SSLCertVerificationError as error:
            raise SettingsError(f"HORNPIPE_TLS_CERT: {self._cert}: {error.verify_message}") from error
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(facts["notAfter"])), UTC)

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(self._cert, self._key, lambda: self._password)
        except ssl.SSLError as error:
            raise SettingsError(f"HORNPIPE_TLS_CERT, HORNPIPE_TLS_KEY: {self._why(error)}") from error
        except OSError as error:
            raise SettingsError(f"HORNPIPE_TLS_CERT, HORNPIPE_TLS_KEY: {self._missing()}: {error.strerror}") from error

    def _why(self, error: ssl.SSLError) -> str:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"the private key in {self._key} is not that of {self._cert}"
        if b"ENCRYPTED" in self._key.read_bytes():  # of a wrong password OpenSSL says what it says of a wrong file
            return f"HORNPIPE_TLS_KEY_PASSWORD does not open {self._key}"
        return f"{self._cert} and {self._key} are no certificate and its key in PEM"

    def _missing(self) -> str:
        return str(next((path for path in (self._cert, self._key) if not path.is_file()), self._key))

    def _files(self) -> object:
        return [_stamp(path) for path in (self._cert, self._key)]


def of(settings: Settings) -> Certificate | None:
    """The certificate, where there shall be HTTPS. Raises SettingsError."""
    return Certificate(settings) if settings.tls_cert is not None else None


def _load_authority(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise SettingsError(f"HORNPIPE_TLS_CLIENT_CA: {path}: is no list of certificates in PEM") from error
    except OSError as error:
        raise SettingsError(f"HORNPIPE_TLS_CLIENT_CA: {path}: {error.strerror}") from error
    context.verify_mode = ssl.CERT_REQUIRED


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Another one after every change. A time alone may be the same before a file was written and after: clocks tick
    slowly. None of what is not there just now."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _first(path: Path) -> str:
    """The certificate itself, without those that vouch for it."""
    end = "-----END CERTIFICATE-----"
    return path.read_text().partition(end)[0] + end


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, object]:
    """What a client is shown by a server, without a network between them: Python reads certificates nowhere else."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (here, there, here):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return dict(here.getpeercert() or {})
