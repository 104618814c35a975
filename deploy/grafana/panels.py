"""Grafana's JSON for the few kinds of panels that the dashboards are made of.

https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]

# Grafana's name for the data source that provisioning/ makes.
PROMETHEUS: Json = {"type": "prometheus", "uid": "prometheus"}
# Of the model that Grafana 12 writes; older ones are brought up to date when they are loaded.
SCHEMA_VERSION = 41
COLUMNS = 24
# Makes one table of the answers to several queries; rows that differ in nothing but a moment belong together.
_MERGED = ({"id": "filterFieldsByName", "options": {"exclude": {"names": ["Time"]}}}, {"id": "merge", "options": {}})
GREEN, YELLOW, RED, GRAY = "green", "yellow", "red", "text"
Steps = tuple[tuple[float | None, str], ...]
BY_DRIFT: Steps = ((None, GREEN), (0.5, YELLOW), (1, RED))
BY_FAILURES: Steps = ((None, GREEN), (0.01, YELLOW), (0.05, RED))
NONE_IS_GOOD: Steps = ((None, GREEN), (1, RED))
NONE_IS_BAD: Steps = ((None, RED), (1, GREEN))
# A row's height and its panels, which share its width.
Row = tuple[int, list[Json]]


def lines(
    title: str,
    queries: Mapping[str, str],
    unit: str = "short",
    about: str = "",
    *,
    stacked: bool = False,
    least: float | None = 0,
    band: tuple[str, str] | None = None,
) -> Json:
    """Values over time. Queries are by legend; `band` names two that are filled in between."""
    custom: Json = {"lineWidth": 1, "fillOpacity": 20 if stacked else 0, "showPoints": "never", "spanNulls": False}
    custom["stacking"] = {"mode": "normal" if stacked else "none", "group": "A"}
    options = {"legend": _legend(), "tooltip": {"mode": "multi", "sort": "desc"}}
    panel = _panel("timeseries", title, about, _defaults(unit, least, custom), options)
    panel["targets"] = [_target(number, query, legend) for number, (legend, query) in enumerate(queries.items())]
    if band is not None:
        low, high = band
        panel["fieldConfig"]["overrides"] = [
            _override(high, {"custom.fillBelowTo": low, "custom.lineWidth": 0, "custom.fillOpacity": 15}),
            _override(low, {"custom.lineWidth": 0}),
        ]
    return panel


def number(
    title: str, query: str, unit: str = "short", about: str = "", steps: Steps = ((None, GRAY),), none: str = "none"
) -> Json:
    """One number, as of now; `none` stands where there is none."""
    defaults = _defaults(unit, None, {}) | {"thresholds": _thresholds(steps), "color": {"mode": "thresholds"}}
    options = {"colorMode": "value", "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"], "fields": ""}}
    panel = _panel("stat", title, about, defaults | {"noValue": none}, options)
    panel["targets"] = [_now(0, query)]
    return panel


def table(
    title: str,
    queries: Mapping[str, str],
    by: Iterable[str],
    about: str = "",
    *,
    units: Mapping[str, str] | None = None,
    steps: Steps | None = None,
    decimals: int | None = None,
) -> Json:
    """What is so now: a row for each of the labels `by`, a column for each query, coloured where there are steps.

    Every query must have just these labels.
    """
    defaults: Json = {"custom": {"align": "auto"}, "noValue": "none"}
    if decimals is not None:
        defaults["decimals"] = decimals
    panel = _panel("table", title, about, defaults, {"showHeader": True})
    panel["targets"] = [_now(number, query, "table") for number, query in enumerate(queries.values())]
    names = {_value(number, len(queries)): name for number, name in enumerate(queries)}
    order = [*by, *names]
    panel["transformations"] = [*_MERGED, _organize(names, hidden=[], order=order)]
    overrides = [_override(name, {"unit": unit}) for name, unit in (units or {}).items()]
    if steps is not None:
        coloured = {"thresholds": _thresholds(steps), "decimals": 2}
        coloured["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
        overrides += [_override(name, coloured) for name in queries if name not in (units or {})]
    panel["fieldConfig"]["overrides"] = overrides
    return panel


def bars(title: str, queries: Mapping[str, str], x: str, order: str, about: str = "", *, repeat: str = "") -> Json:
    """Shares by the label `x`, a colour for each query; sorted by the label `order`, which is a number.

    With `repeat` there is a panel for each value of that variable.
    """
    defaults = _defaults("percentunit", 0, {"fillOpacity": 70, "lineWidth": 0})
    options = {"xField": x, "legend": _legend(), "xTickLabelRotation": -45, "xTickLabelMaxLength": 16}
    panel = _panel("barchart", title, about, defaults, options | {"tooltip": {"mode": "multi", "sort": "none"}})
    panel["targets"] = [_now(number, query, "table") for number, query in enumerate(queries.values())]
    names = {_value(number, len(queries)): name for number, name in enumerate(queries)}
    names |= {"Value": next(iter(queries))}  # while the others have no answer
    panel["transformations"] = [
        *_MERGED,
        {"id": "convertFieldType", "options": {"conversions": [{"targetField": order, "destinationType": "number"}]}},
        {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": order, "desc": False}]}},
        _organize(names, hidden=[order], order=[x, *names]),
    ]
    if repeat:
        panel |= {"repeat": repeat, "repeatDirection": "h", "maxPerRow": 3}
    return panel


def heat(title: str, query: str, legend: str, steps: Steps, about: str = "") -> Json:
    """A row for each series, whose colour says the value over time."""
    defaults = _defaults("short", None, {"fillOpacity": 90, "lineWidth": 0})
    defaults |= {"thresholds": _thresholds(steps), "color": {"mode": "thresholds"}, "decimals": 2}
    options = {"showValue": "never", "rowHeight": 0.9, "legend": _legend(), "tooltip": {"mode": "single"}}
    panel = _panel("status-history", title, about, defaults, options)
    panel["targets"] = [_target(0, query, legend)]
    panel["maxDataPoints"] = 96  # a box must stay wide enough to be seen
    return panel


def variable(name: str, label: str, query: str, *, sort: int = 1, several: bool = False) -> Json:
    """What can be chosen above the panels. Sorted from A to Z; 4 is by number, the largest first."""
    made: Json = {"type": "query", "name": name, "label": label, "datasource": PROMETHEUS}
    made["query"] = {"query": query, "refId": name}
    made |= {"refresh": 2, "sort": sort, "multi": several, "includeAll": several, "hide": 0, "regex": ""}
    if several:
        made["current"] = {"text": ["All"], "value": ["$__all"]}
    return made


def choice(name: str, label: str, values: tuple[str, ...]) -> Json:
    """One of a few fixed values, the first unless somebody chooses."""
    options = [{"text": each, "value": each, "selected": each == values[0]} for each in values]
    made: Json = {"type": "custom", "name": name, "label": label, "query": ",".join(values), "options": options}
    return made | {"current": options[0], "multi": False, "includeAll": False, "hide": 0}


def section(title: str) -> Row:
    """A heading; what follows belongs to it."""
    return 1, [{"type": "row", "title": title, "collapsed": False, "panels": []}]


def dashboard(uid: str, title: str, about: str, variables: Iterable[Json], rows: Iterable[Row]) -> Json:
    return {
        "uid": f"hornpipe-{uid}",
        "title": title,
        "description": about,
        "tags": ["hornpipe"],
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "tags": ["hornpipe"], "title": "Hornpipe", "includeVars": True, "keepTime": True}
        ],
        "templating": {"list": list(variables)},
        "panels": list(_placed(rows)),
    }


def _placed(rows: Iterable[Row]) -> Iterable[Json]:
    y = identity = 0
    for height, panels in rows:
        width = COLUMNS // len(panels)
        for i, panel in enumerate(panels):
            identity += 1
            yield panel | {"id": identity, "gridPos": {"x": i * width, "y": y, "w": width, "h": height}}
        y += height


def _panel(kind: str, title: str, about: str, defaults: Json, options: Json) -> Json:
    panel: Json = {"type": kind, "title": title, "datasource": PROMETHEUS}
    if about:
        panel["description"] = about
    return panel | {"fieldConfig": {"defaults": defaults, "overrides": []}, "options": options}


def _defaults(unit: str, least: float | None, custom: Json) -> Json:
    defaults: Json = {"unit": unit, "custom": custom}
    return defaults if least is None else defaults | {"min": least}


def _target(number: int, query: str, legend: str) -> Json:
    return {"refId": _letter(number), "datasource": PROMETHEUS, "expr": query, "legendFormat": legend, "range": True}


def _now(number: int, query: str, form: str = "time_series") -> Json:
    made: Json = {"refId": _letter(number), "datasource": PROMETHEUS, "expr": query, "format": form}
    return made | {"instant": True, "range": False}


def _letter(number: int) -> str:
    return "ABCDEFGH"[number]


def _value(number: int, of: int) -> str:
    """What Grafana calls the values of a query in a table."""
    return f"Value #{_letter(number)}" if of > 1 else "Value"


def _organize(names: Mapping[str, str], hidden: Iterable[str], order: Iterable[str]) -> Json:
    options = {"renameByName": dict(names), "excludeByName": dict.fromkeys(hidden, True)}
    options["indexByName"] = {name: i for i, name in enumerate(order)}
    return {"id": "organize", "options": options}


def _override(name: str, properties: Mapping[str, Any]) -> Json:
    settings = [{"id": key, "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": settings}


def _thresholds(steps: Steps) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def _legend() -> Json:
    return {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}
