"""Real flights as a shop would have them: a Parquet shard a month, and requests for them in the order of their days."""

from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Of a month, one flight in so many: a job then takes half a minute, and months still tell their seasons.
EVERY = 3
ROWS_A_REQUEST = 10
TARGET = "outcome"


def deliver(flights: Path, folder: Path, months: Iterable[int]) -> list[Path]:
    """Write the months' shards; each is there whole or not at all."""
    folder.mkdir(exist_ok=True)
    return [_written(_thinned(flights / _name(month)), folder / _name(month)) for month in months]


def paths(folder: Path, months: Iterable[int]) -> list[Path]:
    return [folder / _name(month) for month in months]


def shuffle_labels(shards: Iterable[Path]) -> None:
    """Each month keeps its share of late flights, and no flight keeps its own label but by chance."""
    rng = np.random.default_rng(6)
    for path in shards:
        table = pq.read_table(path)
        mixed = table[TARGET].combine_chunks().take(pa.array(rng.permutation(len(table))))
        _written(table.set_column(table.schema.get_field_index(TARGET), TARGET, mixed), path)


def count(folder: Path, first: date, last: date) -> int:
    """Flights of these days and those between."""
    days = pc.cast(
        pa.concat_tables([pq.read_table(path, columns=["date"]) for path in folder.glob("*")])["date"], "date32"
    )
    within = pc.and_(pc.greater_equal(days, pa.scalar(first)), pc.less_equal(days, pa.scalar(last)))
    return int(pc.sum(within).as_py())


def requests(shards: Iterable[Path], features: Iterable[str], *, in_order: bool = True) -> list[bytes]:
    """Bodies of POST /predict, of so many flights each: by day, or any flights together."""
    table = pa.concat_tables([pq.read_table(path, columns=list(features)) for path in shards])
    if not in_order:
        table = table.take(pa.array(np.random.default_rng(5).permutation(len(table))))
    return list(_bodies(table))


def _bodies(table: pa.Table) -> Iterator[bytes]:
    for first in range(0, len(table), ROWS_A_REQUEST):
        rows = table.slice(first, ROWS_A_REQUEST).to_pylist()
        known = [{name: value for name, value in row.items() if value is not None} for row in rows]
        yield orjson.dumps({"instances": known})


def _thinned(path: Path) -> pa.Table:
    """A prepared month is in the order of its days."""
    table = pq.read_table(path)
    return table.take(pa.array(range(0, len(table), EVERY)))


def _written(table: pa.Table, path: Path) -> Path:
    beside = path.with_name(f".{path.name}")
    pq.write_table(table, beside)
    return beside.replace(path)


def _name(month: int) -> str:
    return f"2013-{month:02}.parquet"
