"""What was read last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cache(Generic[T]):
    """What was read last, up to so many bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._held: OrderedDict[tuple[int, int], tuple[T, int]] = OrderedDict()

    def get(self, key: tuple[int, int], read: Callable[[], tuple[T, int]]) -> T:
        """The value of a key; ``read`` makes it, and says how many bytes it has."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][0]
        value, size = read()
        self._held[key] = (value, size)
        self._bytes += size
        while self._bytes > self._most and len(self._held) > 1:
            _, (_, dropped) = self._held.popitem(last=False)
            self._bytes -= dropped
        return value
