"""The database's tables and what is asked of them. How they came to be is in `migrations`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from sqlalchemy import Connection, MetaData

METADATA = MetaData()


class Run(Protocol):
    """Runs work on a connection in one transaction, and returns once that is durable. Raises StoreError."""

    def __call__[T](self, work: Callable[[Connection], T]) -> Awaitable[T]: ...
