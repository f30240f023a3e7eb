"""Writes vectors/ anew, and the pages of docs/ that are drawn from the code: ``python -m tests.make_vectors``.

The JSON is for other implementations of the same rules; that it is current is a test (`test_vectors`).
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from tests import vectors

ROOT = Path(__file__).parents[1]


def made() -> dict[str, str]:
    """Every generated file: its path in the repository → its text."""
    files = {}
    for area in iter_modules(vectors.__path__):
        module = import_module(f"{vectors.__name__}.{area.name}")
        files[f"vectors/{area.name}.json"] = json.dumps(module.build(), indent=1, ensure_ascii=False) + "\n"
        if hasattr(module, "documents"):
            files |= module.documents()
    return files


def main() -> None:
    for path, text in made().items():
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
