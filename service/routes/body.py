"""The body of a request that is not on a hot path, by what it is to be."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from contract.features import MOST_PROBLEMS, Problem, show
from service.errors import InvalidRequest, NotJSON

T = TypeVar("T", bound=BaseModel)


def read(kind: type[T], body: bytes, otherwise: str = "the request does not fit") -> T:
    """Raises NotJSON, or InvalidRequest, whose message is `otherwise`, with every problem; the first hundred."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        found = error.errors()
        if found[0]["type"] == "json_invalid":
            raise NotJSON(f"the body is not JSON: {found[0]['ctx']['error']}") from error
        problems = [
            Problem(".".join(map(str, each["loc"])), "does not fit", each["msg"], show(each["input"]))
            for each in found[:MOST_PROBLEMS]
        ]
        raise InvalidRequest(otherwise, problems) from error


def described(schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """What OpenAPI is told of such a body, which FastAPI does not read for us."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}
