"""Puts walls around a program that reads strangers' files, then becomes that program.

Run as ``python -I -S walls.py SETTINGS PROGRAM ARGUMENT…`` with open files as its only view of the world; it must
not import anything outside the standard library. SETTINGS is a JSON object, see `main`. From outside in:

* processor time, memory, size of written files and number of open files are limited;
* it dies with the process that started it (Linux, as are the next two);
* no network: a network namespace of its own, in which not even loopback is up;
* no files: Landlock leaves it the program itself and the system's shared libraries to read, nothing to write. What
  was opened before (its input, its output) stays open.

The last two depend on kernel and container. Where one cannot be built the program still runs, behind the others and
its own list of allowed protocols; ``bct doctor`` says which stand (PROGRAM "-" only reports them, as JSON).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_LANDLOCK_CREATE_RULESET = 444  # the same numbers on every architecture
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_VERSION = 1  # flag of create_ruleset: only say which version the kernel has
_RULE_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_LIBRARIES = ("/usr/lib", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache")

_libc = ctypes.CDLL(None)


def main(settings: str, program: str, *arguments: str) -> None:
    """settings: parent (pid), seconds of processor time, bytes of memory, bytes of the largest file written."""
    limits = json.loads(settings)
    for name, value in (
        (resource.RLIMIT_CPU, limits["seconds"]),
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_FSIZE, limits["file_size"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(name, (value, value))
    walls = {"network": False, "files": False}
    if sys.platform == "linux":
        _die_with(limits["parent"])
        walls = {"network": _no_network(), "files": _no_files(program)}
    if program == "-":
        print(json.dumps(walls))
    else:
        os.execve(program, [program, *arguments], {})  # noqa: S606 - becoming the program is what this is for


def _die_with(parent: int) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before the line above
        sys.exit("the process that asked for this is gone")


def _no_network() -> bool:
    for spaces in (os.CLONE_NEWNET, os.CLONE_NEWUSER | os.CLONE_NEWNET):  # the second needs no privilege
        try:
            os.unshare(spaces)
        except OSError:
            continue
        return True
    return False


def _no_files(program: str) -> bool:
    version = _libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if version < 1 or _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    # Version 1 knows thirteen rights over files, 2 adds renaming, 3 truncating, 5 device control.
    rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)
    handled = struct.pack("=Q", (1 << rights) - 1)
    ruleset = _libc.syscall(_LANDLOCK_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if ruleset < 0:
        return False
    _allow(ruleset, program, _EXECUTE | _READ_FILE)
    for path in _LIBRARIES:
        _allow(ruleset, path, _EXECUTE | _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0))
    stands = bool(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0)
    os.close(ruleset)
    return stands


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    rule = struct.pack("=Qi", rights, file)
    _libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    os.close(file)


if __name__ == "__main__":
    main(*sys.argv[1:])
