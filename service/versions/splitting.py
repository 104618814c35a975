"""Who comes to the canary: a share of the keys, always the same ones."""

import random
from hashlib import blake2b

_ALL = 2**64


class Split:
    """Sends `percent` of the keys of a model to its canary.

    A key's place between 0 and 1 is its hash, salted with the model's name, so that two models do not try their
    canaries on the same clients; the canary has the places below its share. So a key always comes to the same side, in
    every process, and when the share grows, keys only move to the canary.
    """

    def __init__(self, name: str, percent: float) -> None:
        # Names are ASCII and at most 64 characters long, which is what BLAKE2b takes for a key.
        self._salted = blake2b(digest_size=8, key=name.encode())
        self._share = percent / 100
        self._below = int(self._share * _ALL)

    def to_canary(self, key: bytes) -> bool:
        """Who has no key comes to either side by chance."""
        if not key:
            return random.random() < self._share  # noqa: S311  # nobody gains by guessing it
        place = self._salted.copy()
        place.update(key)
        return int.from_bytes(place.digest(), "big") < self._below
