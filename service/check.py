"""Everything that would go wrong later, said now: what `hornpipe serve --check` does instead of serving."""

import contextlib
import os
import resource
import shutil
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from contract import bundle, routing, runtimes
from contract.errors import HornpipeError
from service.access import keys
from service.access.guard import is_loopback, require_safe
from service.http import tls
from service.logs import tracing
from service.settings import Settings, SettingsError, from_environment
from service.versions.loaded import load

EXPIRES_SOON = timedelta(days=14)
LITTLE_DISK_BYTES = 200 * 10**6
OTHER_FILES = 200  # that are open besides connections

Verdict = Literal["ok", "note", "wrong"]


class Finding(NamedTuple):
    """`note` is for what works and may not be meant so; `wrong` for what will not work."""

    verdict: Verdict
    about: str
    text: str


def check(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at everything, however much of it is wrong. Loads every version that would be loaded."""
    settings, problems = _settings(environment)
    yield from problems
    if settings is None:
        return
    for look in (_address, _ports, _keys, _certificate, _runtime, _models, _predictions, _connections):
        yield from _told(look, settings)
    yield from _traces(environment)


def report(environment: Mapping[str, str]) -> int:
    """Print the findings. Exit codes: 0 nothing is wrong, 2 misconfigured."""
    wrong = 0
    for finding in check(environment):
        print(f"{finding.verdict:<6} {finding.about:<12} {finding.text}", flush=True)  # noqa: T201  # a command's
        wrong += finding.verdict == "wrong"
    print("nothing is wrong" if not wrong else f"{wrong} wrong")  # noqa: T201  # a command's
    return 2 if wrong else 0


def _told(look: Callable[[Settings], Iterator[Finding]], settings: Settings) -> Iterator[Finding]:
    """What a look finds, and what stops it."""
    about = look.__name__.removeprefix("_")
    try:
        yield from look(settings)
    except (HornpipeError, OSError) as error:
        yield Finding("wrong", about, str(error))


def _settings(environment: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """The settings, or those that are left without the wrong ones, so that the rest can be looked at too."""
    try:
        return from_environment(environment), [
            Finding("ok", "settings", "every HORNPIPE_* variable is as it should be")
        ]
    except SettingsError as error:
        lines = str(error).splitlines()
    problems = [Finding("wrong", "settings", line) for line in lines]
    named = {line.partition(":")[0] for line in lines}
    try:
        return from_environment({name: value for name, value in environment.items() if name not in named}), problems
    except SettingsError:
        return None, problems


def _address(settings: Settings) -> Iterator[Finding]:
    require_safe(settings)
    if is_loopback(settings.host):
        yield Finding("ok", "address", f"{settings.host}: only this machine can connect")
    elif settings.keys_file is None and settings.tls_client_ca is None:
        yield Finding("note", "address", f"{settings.host}: whoever can connect may ask anything (HORNPIPE_INSECURE=1)")
    elif settings.tls_cert is None:
        yield Finding("note", "address", f"{settings.host}: keys are sent without encryption (no HORNPIPE_TLS_CERT)")
    else:
        yield Finding("ok", "address", f"{settings.host}: with TLS, for who may")


def _ports(settings: Settings) -> Iterator[Finding]:
    for port in (settings.port, settings.grpc_port):
        if port is None:
            continue
        try:
            _listen(settings.host, port)
        except OSError as error:
            yield Finding("wrong", "port", f"{settings.host}:{port}: {error.strerror}")
        else:
            yield Finding("ok", "port", f"{settings.host}:{port} is free")


def _listen(host: str, port: int) -> None:
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)


def _keys(settings: Settings) -> Iterator[Finding]:
    if settings.keys_file is None:
        return
    stored = keys.read(settings.keys_file).keys
    over = [key.name for key in stored if key.expires is not None and key.expires <= datetime.now(UTC)]
    if len(stored) == len(over):
        yield Finding("wrong", "keys", f"{settings.keys_file}: no key is in force, so nobody can ask anything")
    else:
        yield Finding("ok", "keys", f"{len(stored) - len(over)} in force")
    if over:
        yield Finding("note", "keys", f"the time of these is over: {', '.join(over)}")
    yield from _others_may_write(settings.keys_file, "keys", "anybody on this machine can make keys")


def _certificate(settings: Settings) -> Iterator[Finding]:
    certificate = tls.of(settings)
    if certificate is None:
        return
    ends = certificate.expires()
    text = f"{settings.tls_cert}: good until {ends:%Y-%m-%d %H:%M} UTC"
    yield Finding("note" if ends - datetime.now(UTC) < EXPIRES_SOON else "ok", "certificate", text)


def _runtime(settings: Settings) -> Iterator[Finding]:
    runtimes.require(settings.runtime, settings.device)
    yield Finding("ok", "runtime", f"{settings.runtime} on {settings.device}; here: {', '.join(runtimes.installed())}")


def _models(settings: Settings) -> Iterator[Finding]:
    folder = settings.models_dir
    if not folder.is_dir():
        yield Finding("wrong", "models", f"{folder}: there is no such folder")
        return
    if not os.access(folder, os.R_OK | os.X_OK):
        yield Finding("wrong", "models", f"{folder}: may not be read by this user")
        return
    there = bundle.names(folder)
    yield from (
        Finding("wrong", "models", f"HORNPIPE_MODELS: no {name} in {folder}")
        for name in settings.models
        if name not in there
    )
    for name in settings.models or there:
        if name in there:
            yield from _model(settings, name)
    if not there:
        yield Finding("note", "models", f"{folder}: is empty; the service waits until a model comes")
    yield from _others_may_write(folder, "models", "anybody on this machine can exchange the models")
    if (free := shutil.disk_usage(folder).free) < LITTLE_DISK_BYTES:
        yield Finding("note", "disk", f"{folder}: {free / 1e6:.0f} MB are free; a new version may not fit")


def _model(settings: Settings, name: str) -> Iterator[Finding]:
    """Every version with a role is loaded and proves itself, as it will when the service starts."""
    try:
        routed = routing.read(settings.models_dir, name)
    except HornpipeError as error:
        yield Finding("wrong", "models", str(error))
        return
    if not routed.roles():
        yield Finding("note", "models", f"{name}: no version is in production; see hornpipe promote")
    for version in routed.roles():
        try:
            loaded = load(settings.models_dir, name, version, settings)
        except (HornpipeError, OSError, ValueError, RuntimeError) as error:
            # The last two are what LiteRT and TensorFlow raise for a file that they cannot read.
            yield Finding("wrong", "models", f"{name}/{version}: {error}")
        else:
            yield Finding("ok", "models", f"{name}/{version}: verified, loaded and proven; {loaded.variant}")


def _predictions(settings: Settings) -> Iterator[Finding]:
    """A feature that is misspelt would be kept as it is, which nobody would see."""
    named = set(settings.predictions_redact + settings.predictions_hash)
    folder = settings.predictions_dir
    if folder is None:
        if named:
            yield Finding(
                "note", "predictions", "nothing is kept, so nothing is redacted (no HORNPIPE_PREDICTIONS_DIR)"
            )
        return
    there = set(settings.models or bundle.names(settings.models_dir))
    features = {feature for name in there for feature in _features(settings.models_dir, name)}
    if unknown := sorted(named - features):
        text = f"HORNPIPE_PREDICTIONS_REDACT and _HASH: no model has a feature called {', '.join(unknown)}"
        yield Finding("wrong", "predictions", text)
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        yield Finding("wrong", "predictions", f"{folder}: may not be written to by this user")
    elif (free := shutil.disk_usage(place).free) < 2 * settings.predictions_bytes:
        yield Finding(
            "note", "predictions", f"{folder}: {free / 1e6:.0f} MB are free, less than twice what it may take"
        )
    else:
        yield Finding("ok", "predictions", f"{folder}: {settings.predictions_share:.0%} of the requests are kept")


def _features(models: Path, name: str) -> Iterator[str]:
    """Of every version that can be read."""
    for version in bundle.versions(models, name):
        with contextlib.suppress(HornpipeError):  # which is said where the model is looked at
            yield from (feature.name for feature in bundle.read_version(models, name, version).manifest.features)


def _connections(settings: Settings) -> Iterator[Finding]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < settings.max_connections + OTHER_FILES:
        text = f"{settings.max_connections} may come, but this process may have only {most} open files (ulimit -n)"
        yield Finding("note", "connections", text)


def _traces(environment: Mapping[str, str]) -> Iterator[Finding]:
    try:
        tracer = tracing.make(environment)
    except HornpipeError as error:
        yield Finding("wrong", "traces", str(error))
        return
    if tracer is not None:
        tracer.close()
        yield Finding("ok", "traces", "are sent as the OTEL_* variables say; whether anybody listens was not tried")


def _others_may_write(path: Path, about: str, so: str) -> Iterator[Finding]:
    if path.stat().st_mode & stat.S_IWOTH:
        yield Finding("note", about, f"{path}: {so} (it is writable for all)")
