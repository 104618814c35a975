"""The request and the answer, as both FastAPI servers declare them.

Both ask for and give what the real service does, so that every server reads and writes the same bytes. The model of a
row is written out and not generated from the manifest, because that is what people write.
"""

from uuid import uuid4

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


class Prediction(BaseModel):
    """What the model says of one row."""

    label: str
    probability: float
    probabilities: dict[str, float]


class Answer(BaseModel):
    """The body of the answer."""

    predictions: list[Prediction]
    model: str
    version: int
    request_id: str


def columns(flights: list[Flight]) -> dict[str, list[str] | list[float]]:
    """A list for each feature, with NaN for a number that is not there."""
    missing = float("nan")
    return {
        name: [missing if (value := getattr(flight, name)) is None else value for flight in flights]
        for name in Flight.model_fields
    }


def answer(probabilities: list[float], version: int) -> Answer:
    """What the probabilities of being late mean."""
    predictions = [
        Prediction(
            label="late" if late >= 0.5 else "on_time",
            probability=max(late, 1 - late),
            probabilities={"on_time": 1 - late, "late": late},
        )
        for late in probabilities
    ]
    return Answer(predictions=predictions, model="flights", version=version, request_id=uuid4().hex)
