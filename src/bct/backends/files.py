"""Two habits of every file that must survive a power cut."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Makes names created, renamed or removed in `directory` durable; syncing a file alone does not keep its name."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_draft(path: Path, data: bytes) -> Path:
    """`data`, durable, beside `path` under a name of its own, readable by the owner only. The caller moves it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return draft


def replace(path: Path, data: bytes) -> None:
    """The file holds `data` or, after a crash, still all of what it held before; mode 0600. Raises OSError."""
    os.replace(write_draft(path, data), path)
    sync_directory(path.parent)


def create(path: Path, data: bytes) -> bool:
    """A new file that holds all of `data`, mode 0600; False, changing nothing, when `path` exists. Raises OSError."""
    draft = write_draft(path, data)
    try:
        os.link(draft, path)  # unlike a rename, refuses to take the place of another file
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    sync_directory(path.parent)
    return True
