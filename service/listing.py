"""The table that `hornpipe models` prints."""

from pathlib import Path

from contract import bundle, routing
from contract.errors import BundleError, RoutingError
from contract.routing import Routing

COLUMNS = ("MODEL", "VERSION", "SERVES", "METRIC", "95% INTERVAL", "VARIANT", "SIZE", "CREATED")


def listing(models: Path, name: str | None = None) -> str:
    """The versions of each model that serve, or its newest; or all versions of the model that is named.

    Raises RoutingError when there is no such model.
    """
    names = bundle.names(models)
    if name is not None and name not in names:
        raise RoutingError(f"there is no model {name!r} in {models}; models: {', '.join(names) or 'none'}")
    if not names:
        return f"no models in {models}; make one with: hornpipe train CONFIG --promote"
    rows: list[tuple[str, ...]] = [COLUMNS]
    for each in names if name is None else [name]:
        routed = routing.read(models, each)
        roles, versions = routed.roles(), bundle.versions(models, each)
        shown = versions if name else [version for version in versions if version in roles] or versions[-1:]
        rows += [_row(models, each, version, _serves(routed, version)) for version in shown]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def _serves(routed: Routing, version: int) -> str:
    """What a version is there for: production, canary 5%, shadow, pinned."""
    share = f" {routed.canary.percent:g}%" if routed.canary else ""
    return ", ".join(role + share * (role == "canary") for role in routed.roles().get(version, ()))


def _row(models: Path, name: str, version: int, mark: str) -> tuple[str, ...]:
    try:
        manifest = bundle.read_version(models, name, version).manifest
    except BundleError as error:
        return (name, str(version), mark, f"unreadable: {error.problems[0]}", "", "", "", "")
    metric = manifest.metrics.get(manifest.headline)  # an imported model has none
    return (
        name,
        str(version),
        mark,
        f"{manifest.headline} {metric.value:.4f}" if metric else "",
        f"{metric.low:.4f}..{metric.high:.4f}" if metric else "",
        manifest.chosen.variant,
        f"{sum(file.size for file in manifest.files.values()) / 1e6:.1f} MB",
        f"{manifest.created:%Y-%m-%d %H:%M}",
    )
