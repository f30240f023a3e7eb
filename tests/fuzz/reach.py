"""Which lines of a module's functions run: how deep a target's inputs go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from inspect import CO_OPTIMIZED, getsource
from types import CodeType, ModuleType

_TOOL = 5


def lines(module: ModuleType) -> set[int]:
    """Of its functions; what runs when it is imported is left out."""
    whole = compile(getsource(module), module.__file__ or "", "exec")
    return {line for code in _functions(whole) for line in _lines(code)}


def _functions(code: CodeType) -> Iterator[CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_flags & CO_OPTIMIZED:
                yield inner
            yield from _functions(inner)


def _lines(code: CodeType) -> set[int]:
    found = {line for _, _, line in code.co_lines() if line}
    return found - {code.co_firstlineno} or found


def reached(modules: tuple[ModuleType, ...], work: Callable[[], object]) -> dict[str, int]:
    """Percent of each module's lines that `work` runs."""
    hit: dict[str | None, set[int]] = {module.__file__: set() for module in modules}

    def ran(code: CodeType, line: int) -> object:
        if code.co_filename in hit:
            hit[code.co_filename].add(line)
        return sys.monitoring.DISABLE

    _watch(sys.monitoring.events.LINE, ran, work)
    there = {module: lines(module) for module in modules}
    return {module.__name__: 100 * len(hit[module.__file__] & of) // len(of) for module, of in there.items()}


def branches(modules: tuple[ModuleType, ...], work: Callable[[], object]) -> set[tuple[CodeType, int, int]]:
    """Every turn that `work` takes in these modules: where, and to where."""
    files = {module.__file__ for module in modules}
    taken: set[tuple[CodeType, int, int]] = set()

    def turned(code: CodeType, at: int, to: int) -> None:
        if code.co_filename in files:
            taken.add((code, at, to))

    _watch(sys.monitoring.events.BRANCH, turned, work)
    return taken


def _watch(event: int, told: Callable[..., object], work: Callable[[], object]) -> None:
    sys.monitoring.use_tool_id(_TOOL, "bct reach")
    try:
        sys.monitoring.register_callback(_TOOL, event, told)
        sys.monitoring.set_events(_TOOL, event)
        work()
    finally:
        sys.monitoring.set_events(_TOOL, 0)
        sys.monitoring.free_tool_id(_TOOL)
        sys.monitoring.restart_events()
