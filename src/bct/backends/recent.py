"""A dict that holds so many of the newest entries and forgets the oldest."""

from __future__ import annotations


class Recent[K, V](dict[K, V]):
    """An entry that is set again is new again."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        self.pop(key, None)
        super().__setitem__(key, value)
        if len(self) > self._most:
            del self[next(iter(self))]
