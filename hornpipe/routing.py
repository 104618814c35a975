"""Routing: which version of a model answers whom. A running service follows within a second."""

from __future__ import annotations

import argparse

from hornpipe.command import Command, models_option, user, why_option


def promote(options: argparse.Namespace) -> int:
    from contract import pruning, routing

    before = routing.read(options.models, options.name).production
    if not options.force:
        routing.require_passed(options.models, options.name, options.version)
    routing.promote(options.models, options.name, options.version, by=user(), why=options.why)
    print(f"{options.name}: production {before or 'none'} -> {options.version}")
    if gone := pruning.keep_by_policy(options.models, options.name, by=user()):
        print(f"{options.name}: removed {', '.join(map(str, gone))}, by promotion.keep")
    return 0


def rollback(options: argparse.Namespace) -> int:
    from contract import routing

    before = routing.read(options.models, options.name).production
    after = routing.rollback(options.models, options.name, by=user(), why=options.why)
    print(f"{options.name}: production {before or 'none'} -> {after.production}")
    return 0


def canary(options: argparse.Namespace) -> int:
    from contract import routing

    if options.version is None:
        return _route(options, "canary_off")
    if not options.force:
        routing.require_passed(options.models, options.name, options.version)
    after = routing.canary(
        options.models,
        options.name,
        options.version,
        options.percent,
        by=user(),
        why=options.why,
        watched=options.watched,
    )
    print(f"{options.name}: {after.words()}")
    return 0


def prune(options: argparse.Namespace) -> int:
    from contract import pruning

    gone = pruning.prune(
        options.models, options.name, options.keep, by=user(), why=options.why, dry_run=options.dry_run
    )
    print(
        f"{options.name}: {'would remove' if options.dry_run else 'removed'} {', '.join(map(str, gone)) or 'nothing'}"
    )
    return 0


def shadow(options: argparse.Namespace) -> int:
    return _route(options, "shadow_off") if options.version is None else _route(options, "shadow", options.version)


def pin(options: argparse.Namespace) -> int:
    return _route(options, "pin", options.version)


def unpin(options: argparse.Namespace) -> int:
    return _route(options, "unpin", options.version)


def load(options: argparse.Namespace) -> int:
    return _route(options, "load")


def unload(options: argparse.Namespace) -> int:
    return _route(options, "unload")


def _route(options: argparse.Namespace, change: str, *arguments: float) -> int:
    from contract import routing

    after = getattr(routing, change)(options.models, options.name, *arguments, by=user(), why=options.why)
    print(f"{options.name}: {after.words()}")
    return 0


def _promote_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("version", type=int, metavar="VERSION")
    sub.add_argument("--force", action="store_true", help="even if the gate refused it")
    why_option(sub)
    models_option(sub)


def _model_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME")
    why_option(sub)
    models_option(sub)


def _version_arguments(sub: argparse.ArgumentParser) -> None:
    _model_arguments(sub)
    sub.add_argument("version", type=int, metavar="VERSION")


def _shadow_arguments(sub: argparse.ArgumentParser) -> None:
    _model_arguments(sub)
    sub.add_argument("version", type=_version_or_off, metavar="VERSION", help="or the word off")


def _canary_arguments(sub: argparse.ArgumentParser) -> None:
    _shadow_arguments(sub)
    sub.add_argument("--percent", type=float, default=5.0, help="of the traffic that asks for no version (5)")
    sub.add_argument("--force", action="store_true", help="even if the gate refused it")
    sub.add_argument(
        "--watched",
        action="store_true",
        help="let the service give it more traffic, or none, by the [promotion] of its config",
    )


def _prune_arguments(sub: argparse.ArgumentParser) -> None:
    _model_arguments(sub)
    sub.add_argument("--keep", type=int, required=True, metavar="N", help="how many of the newest stay")
    sub.add_argument("--dry-run", action="store_true", help="only say what would go")


def _version_or_off(text: str) -> int | None:
    try:
        return None if text == "off" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected the number of a version, or the word off, got {text!r}") from None


COMMANDS = (
    Command("promote", "Make a version production.", "hornpipe promote flights 3", _promote_arguments, promote),
    Command(
        "rollback",
        "Go back to the production version before.",
        "hornpipe rollback flights",
        _model_arguments,
        rollback,
    ),
    Command(
        "canary",
        "Give a version a share of the traffic, or take it back: off.",
        "hornpipe canary flights 4 --percent 5",
        _canary_arguments,
        canary,
    ),
    Command(
        "shadow",
        "Let a version answer copies of requests, for the metrics alone, or no more: off.",
        "hornpipe shadow flights 4",
        _shadow_arguments,
        shadow,
    ),
    Command(
        "prune",
        "Remove old versions but the newest N, and those that serve or that a rollback leads to.",
        "hornpipe prune flights --keep 5 --dry-run",
        _prune_arguments,
        prune,
    ),
    Command("pin", "Keep a version for requests that ask for it.", "hornpipe pin flights 2", _version_arguments, pin),
    Command("unpin", "Keep it no more.", "hornpipe unpin flights 2", _version_arguments, unpin),
    Command("unload", "Take a model out of service.", "hornpipe unload flights", _model_arguments, unload),
    Command("load", "Put it in service again.", "hornpipe load flights", _model_arguments, load),
)
