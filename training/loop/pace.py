"""How many steps go into one call of the compiled function."""


class Pace:
    """As many as fit into `SECONDS`: enough that a call costs nothing beside them, few enough that a signal is noticed
    soon. Results do not depend on it."""

    SECONDS = 0.4

    def __init__(self) -> None:
        self.steps = 1

    def took(self, count: int, seconds: float) -> None:
        """A call of `count` steps took so long. It grows slowly: the first calls are slower than those after them."""
        self.steps = max(1, min(int(self.SECONDS * count / seconds), 2 * self.steps))
