"""The overload section of RESULTS.md, and what of it was wanted."""

from collections.abc import Iterator

from benchmarks.numerals import digits
from benchmarks.store import Record, Store


def section(store: Store) -> Iterator[str]:
    """Nothing where it was not measured. The last try of each server counts."""
    tries = latest(store)
    if not tries:
        return
    first = next(iter(tries.values()))
    yield "## Overload"
    yield ""
    yield (
        f"{first['case']}: for {first['seconds']:g} s, {first['times']:g} times as many requests as each server can do "
        f"(*most*), sent when they are due whatever becomes of the others; a client gives up after "
        f"{first['deadline']:g} s. *Good* are answers with 200 in time. *Recovered*: seconds after the load until it "
        "answers as quickly as before."
    )
    yield ""
    yield (
        "| server | most/s | sent/s | good/s | of most | p50 ms | p99 ms | refused p99 ms | answers | gave up | "
        "MB before, largest, after | recovered s |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|--:|"
    for name, each in tries.items():
        yield f"| {name} | {_numbers(each)} |"
    yield ""
    worst = max(each["sent_late"] / max(each["sent"], 1) for each in tries.values())
    busy = max(each["client_cores"] for each in tries.values())
    yield (
        f"Of what was sent, at worst {worst:.1%} was sent more than 50 ms after it was due. The generator took up to "
        f"{busy:.2f} of a core, which the server did not have. What was due and not sent waited in vain for the server "
        "to take its connection, and counts as given up."
    )
    yield ""


def latest(store: Store) -> dict[str, Record]:
    """By server."""
    return {each["server"]: each for each in store.all("overload")}


def _numbers(each: Record) -> str:
    statuses = ", ".join(f"{count:,} x {status}" for status, count in each["statuses"].items()) or "none"
    weights = ", ".join(f"{each[key]:,.0f}" for key in ("before_mb", "largest_mb", "after_mb"))
    recovered = "never" if each["recovered_seconds"] is None else f"{each['recovered_seconds']:.2f}"
    numbers = (
        digits(each["most_per_second"]),
        digits(each["sent"] / each["seconds"]),
        digits(each["good_per_second"]),
        f"{each['good_per_second'] / each['most_per_second']:.0%}",
        *(digits(each[key]) for key in ("p50_ms", "p99_ms", "refused_p99_ms")),
    )
    given_up = f"{each['gave_up'] + each['broken']:,}"
    return " | ".join((*numbers, statuses, given_up, weights, recovered))
