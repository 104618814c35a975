"""The table that `hornpipe models` prints."""

from pathlib import Path

from contract import bundle, routing
from contract.errors import BundleError, RoutingError

COLUMNS = ("MODEL", "VERSION", "SERVES", "METRIC", "95% INTERVAL", "VARIANT", "SIZE", "CREATED")


def listing(models: Path, name: str | None = None) -> str:
    """One line a model, its production or newest version; or one a version where a model is named.

    Raises RoutingError when there is no such model.
    """
    names = bundle.names(models)
    if name is not None and name not in names:
        raise RoutingError(f"there is no model {name!r} in {models}; models: {', '.join(names) or 'none'}")
    if not names:
        return f"no models in {models}; make one with: hornpipe train CONFIG --promote"
    rows: list[tuple[str, ...]] = [COLUMNS]
    for each in names if name is None else [name]:
        production = routing.read(models, each).production
        versions = bundle.versions(models, each)
        shown = versions if name else [production if production in versions else versions[-1]]
        rows += [_row(models, each, version, version == production) for version in shown]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def _row(models: Path, name: str, version: int, serves: bool) -> tuple[str, ...]:
    mark = "production" if serves else ""
    try:
        manifest = bundle.read_version(models, name, version).manifest
    except BundleError as error:
        return (name, str(version), mark, f"unreadable: {error.problems[0]}", "", "", "", "")
    metric = manifest.metrics[manifest.headline]
    return (
        name,
        str(version),
        mark,
        f"{manifest.headline} {metric.value:.4f}",
        f"{metric.low:.4f}..{metric.high:.4f}",
        manifest.chosen.variant,
        f"{sum(file.size for file in manifest.files.values()) / 1e6:.1f} MB",
        f"{manifest.created:%Y-%m-%d %H:%M}",
    )
