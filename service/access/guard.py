"""Who may ask for what. One table says which scope a path needs; hot paths and the others are admitted by one guard."""

import logging
import math
from collections.abc import Mapping
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from socket import gaierror, getaddrinfo
from time import monotonic
from typing import NamedTuple, Protocol

from service.access import keys
from service.access.keys import Keys, KeysError, Scope
from service.errors import Forbidden, RateLimited, Unauthenticated
from service.http.cors import Cors
from service.settings import Settings, SettingsError

log = logging.getLogger("hornpipe.guard")


class Rule(NamedTuple):
    """What a path and everything below it needs: to be read, and for all else. None is open to everybody."""

    path: str
    read: Scope | None
    write: Scope | None


# The first that fits decides.
RULES = (
    Rule("/healthz", None, None),
    Rule("/readyz", None, None),
    Rule("/ping", None, None),
    Rule("/docs", None, None),
    Rule("/metrics", "metrics", "metrics"),
    Rule("/openapi.json", "predict", "predict"),
    Rule("/predict", "predict", "predict"),
    Rule("/invocations", "predict", "predict"),
    Rule("/feedback", "feedback", "feedback"),
    Rule("/jobs", "admin", "admin"),
    Rule("/v1", "predict", "predict"),
    Rule("/v2/health", None, None),
    Rule("/v2/repository", "admin", "admin"),
    Rule("/v2", "predict", "predict"),
    Rule("/models", "predict", "admin"),
    Rule("grpc/ServerLive", None, None),
    Rule("grpc/ServerReady", None, None),
    Rule("grpc/RepositoryIndex", "admin", "admin"),
    Rule("grpc/RepositoryModelLoad", "admin", "admin"),
    Rule("grpc/RepositoryModelUnload", "admin", "admin"),
    Rule("grpc", "predict", "predict"),
    Rule("/grpc.health.v1.Health", None, None),
    Rule("/inference.GRPCInferenceService/ServerLive", None, None),
    Rule("/inference.GRPCInferenceService/ServerReady", None, None),
    Rule("/inference.GRPCInferenceService/RepositoryIndex", "admin", "admin"),
    Rule("/inference.GRPCInferenceService/RepositoryModelLoad", "admin", "admin"),
    Rule("/inference.GRPCInferenceService/RepositoryModelUnload", "admin", "admin"),
    Rule("/inference.GRPCInferenceService", "predict", "predict"),
    Rule("/tensorflow.serving.PredictionService", "predict", "predict"),
    Rule("/tensorflow.serving.ModelService", "predict", "admin"),
)
# Nothing is open because somebody forgot to write it down.
ALL_ELSE = Rule("", "admin", "admin")
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Admit(Protocol):
    """The name of the key that a request came with, if it may pass, which the headers say by lower-case name.

    Raises Unauthenticated, Forbidden or RateLimited.
    """

    def __call__(self, headers: Mapping[bytes, bytes]) -> str: ...


class Guard:
    """Without a keys file everybody may do everything but browsers, which run code of others, what admins do."""

    def __init__(self, settings: Settings) -> None:
        """Raises KeysError when there is a file that cannot be read."""
        self._path = settings.keys_file
        self._open_metrics = settings.open_metrics
        self._cors = Cors(settings.cors_origins)
        self._state = _state_of(self._path) if self._path else None
        self._keys = Keys(keys.read(self._path)) if self._path else None

    @property
    def keeps(self) -> bool:
        """Whether there are keys at all."""
        return self._keys is not None

    def needed(self, method: str, path: str) -> Scope | None:
        """The scope for a path as the router sees it, or a route's template."""
        rule = next((rule for rule in RULES if path == rule.path or path.startswith(f"{rule.path}/")), ALL_ELSE)
        if rule.path == "/metrics" and self._open_metrics:
            return None
        return rule.read if method in _READS else rule.write

    def of(self, method: str, route: str) -> Admit | None:
        """What to ask before a route is answered; None where nothing need be asked, now or later."""
        scope = self.needed(method, route)
        if scope is None or (self._keys is None and scope != "admin"):
            return None
        return partial(self.admit, scope)

    def admit(self, scope: Scope, headers: Mapping[bytes, bytes]) -> str:
        """As `Admit`."""
        if self._keys is None:
            self._refuse_pages(scope, headers)
            return ""
        sent = _sent(headers)
        if sent is None:
            raise Unauthenticated("this needs a key: authorization: Bearer KEY, or x-api-key: KEY")
        key = self._keys.find(sent)
        if key is None:
            raise Unauthenticated("the key is not known here, or its time is over")
        if not key.allows(scope):
            raise Forbidden(f"the key {key.name} may not do this: it lacks the scope {scope}")
        if key.bucket is not None and (wait := key.bucket.take(monotonic())):
            raise RateLimited(f"the key {key.name} asks more often than it may", max(1, math.ceil(wait)))
        return key.name

    def refresh(self) -> None:
        """Take the file's keys if it has changed. A file that cannot be read changes nothing, and the log says so."""
        if self._path is None or self._keys is None or (state := _state_of(self._path)) == self._state:
            return
        self._state = state
        try:
            self._keys = self._keys.renewed(keys.read(self._path))
        except KeysError as error:
            log.error("the keys stay as they were: %s", error)
        else:
            log.info("%d keys are in force", len(self._keys))

    def _refuse_pages(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Where no key is needed, a web page could make its reader's browser unload models; browsers name the page."""
        origin = headers.get(b"origin")
        if scope == "admin" and origin is not None and not self._cors.allows(origin):
            raise Forbidden("web pages may not do this without a key, unless HORNPIPE_CORS_ORIGINS has their origin")


def require_safe(settings: Settings) -> None:
    """Raises SettingsError where anybody on the network could ask anything, and nobody said that it shall be so."""
    guarded = settings.keys_file is not None or settings.tls_client_ca is not None
    if guarded or settings.insecure or is_loopback(settings.host):
        return
    raise SettingsError(
        f"HORNPIPE_HOST: {settings.host} can be reached from other machines, and no key is asked for. Either make a "
        "key (hornpipe keys add NAME --file FILE) and set HORNPIPE_KEYS_FILE, or listen on 127.0.0.1, or, where "
        "something else keeps strangers out, set HORNPIPE_INSECURE=1"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on, or all that a name stands for."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        addresses = {str(info[4][0]) for info in getaddrinfo(host, None)}
    except (gaierror, UnicodeError):
        return False
    return bool(host) and all(ip_address(address.partition("%")[0]).is_loopback for address in addresses)


def describe(error: Exception) -> tuple[tuple[bytes, bytes], ...]:
    """The headers that go with a refusal."""
    if isinstance(error, Unauthenticated):
        return ((b"www-authenticate", error.challenge),)
    if (seconds := getattr(error, "retry_after", None)) is not None:
        return ((b"retry-after", str(seconds).encode()),)
    return ()


def _sent(headers: Mapping[bytes, bytes]) -> bytes | None:
    authorization = headers.get(b"authorization")
    if authorization is not None and authorization[:7].lower() == b"bearer ":
        return authorization[7:].strip()
    return headers.get(b"x-api-key")


def _state_of(path: Path) -> object:
    """Changes whenever the file does."""
    try:
        facts = path.stat()
    except OSError as error:
        return error.errno
    return facts.st_ino, facts.st_mtime_ns, facts.st_size
