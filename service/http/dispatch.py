"""Which endpoint answers a path of the inference protocols: an exact path first, then what its beginning says."""

from collections.abc import Callable, Mapping, Sequence

from service.http.protocol import HotEndpoint

# Method and path to the endpoint; None leaves the path to the application.
Find = Callable[[bytes, bytes], HotEndpoint | None]


class Table:
    """`exact` by path; `beginnings` are looked at in order."""

    def __init__(self, exact: Mapping[bytes, HotEndpoint], beginnings: Sequence[tuple[bytes, Find]] = ()) -> None:
        self._exact = dict(exact)
        self._beginnings = tuple(beginnings)

    def find(self, method: bytes, path: bytes) -> HotEndpoint | None:
        endpoint = self._exact.get(path)
        if endpoint is not None:
            return endpoint
        for beginning, find in self._beginnings:
            if path.startswith(beginning) and (found := find(method, path)) is not None:
                return found
        return None
