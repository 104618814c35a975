"""The request of the flights, as the FastAPI servers declare it.

It is written out and not generated from the manifest, because that is what people write.
"""

from pydantic import BaseModel


class Flight(BaseModel):
    """One row: what is known before departure. What may be unknown may be null or left out."""

    carrier: str
    origin: str
    dest: str
    month: float
    day_of_week: float
    departure_minute: float
    arrival_minute: float
    distance: float
    temp: float | None = None
    dewp: float | None = None
    humid: float | None = None
    wind_dir: float | None = None
    wind_speed: float | None = None
    wind_gust: float | None = None
    precip: float | None = None
    pressure: float | None = None
    visib: float | None = None
    plane_age: float | None = None
    seats: float | None = None


class Flights(BaseModel):
    """The body of POST /predict."""

    instances: list[Flight]
