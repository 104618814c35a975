"""The certificate of HTTPS on the port of gRPC, from the same files, and as soon renewed."""

import logging
from pathlib import Path
from typing import Any

import grpc

from service.settings import Settings, SettingsError

log = logging.getLogger("hornpipe.grpc")


def credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """What gRPC shows and asks for; None where there is no TLS. Raises SettingsError for what gRPC cannot do."""
    if settings.tls_cert is None:
        return None
    if settings.tls_key_password is not None:
        raise SettingsError("HORNPIPE_TLS_KEY_PASSWORD: gRPC reads private keys only as they are, not encrypted")
    files = _Files(settings.tls_cert, settings.tls_key or settings.tls_cert, settings.tls_client_ca)
    first = files.read()
    if first is None:
        raise SettingsError("HORNPIPE_TLS_CERT, HORNPIPE_TLS_KEY: gRPC cannot read them")
    return grpc.dynamic_ssl_server_credentials(
        first, files.read, require_client_authentication=settings.tls_client_ca is not None
    )


class _Files:
    """gRPC asks at every handshake, on threads of its own."""

    def __init__(self, cert: Path, key: Path, authority: Path | None) -> None:
        self._paths = [path for path in (cert, key, authority) if path is not None]
        self._seen: list[tuple[int, int, int]] = []

    def read(self) -> Any:  # noqa: ANN401  # or None, which its type information does not know
        """What is in the files, if that has changed and can be read; None leaves all as it is."""
        try:
            # A time alone may be the same before a file was written and after: clocks tick slowly.
            seen = [(each.st_mtime_ns, each.st_size, each.st_ino) for each in (path.stat() for path in self._paths)]
            if seen == self._seen:
                return None
            cert, key, *authority = (path.read_bytes() for path in self._paths)
        except OSError as error:
            log.error("the certificate stays as it was: %s", error)
            return None
        self._seen = seen
        return grpc.ssl_server_certificate_configuration([(key, cert)], authority[0] if authority else None)
