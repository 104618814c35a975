"""The overload section of RESULTS.md."""

from collections.abc import Iterator

from benchmarks.store import Store


def section(store: Store) -> Iterator[str]:  # noqa: ARG001
    yield from ()
