"""How much work a call does, counted, so that a bound on it holds on any machine however busy."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable

_TOOL = 4
_EVENTS = sys.monitoring.events.PY_START | sys.monitoring.events.CALL | sys.monitoring.events.BRANCH


def steps(work: Callable[[], object]) -> int:
    """Python functions entered, calls made and branches taken, loops' among them, until it returns or raises."""
    counted = 0

    def count(*_: object) -> None:
        nonlocal counted
        counted += 1

    monitoring = sys.monitoring
    monitoring.use_tool_id(_TOOL, "bct work")
    try:
        for event in (monitoring.events.PY_START, monitoring.events.CALL, monitoring.events.BRANCH):
            monitoring.register_callback(_TOOL, event, count)
        monitoring.set_events(_TOOL, _EVENTS)
        _until_it_ends(work)
    finally:
        monitoring.set_events(_TOOL, 0)
        monitoring.free_tool_id(_TOOL)
    return counted


def memory(work: Callable[[], object]) -> int:
    """The most bytes that were held at once, its result included."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = _until_it_ends(work)
        _, peak = tracemalloc.get_traced_memory()
        del kept
    finally:
        tracemalloc.stop()
    return peak


def _until_it_ends(work: Callable[[], object]) -> object:
    try:
        return work()
    except Exception as error:  # how it ends is for other tests to judge
        return error
