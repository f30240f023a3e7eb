"""Writes requirements/*.txt: every library with its version and the sha256 of each of its files, and no addresses.

pip and uv install the same files. The sets are resolved one upon the other, so that a pin is the same in all of them.
Pins that still fit stay; options go to uv: --upgrade, --upgrade-package NAME.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STYLE = ["--universal", "--python-version=3.12", "--generate-hashes", "--no-emit-index-url", "--no-header", "--quiet"]
SETS = {
    "setup": ["requirements/setup.in"],
    "runtime": ["pyproject.toml", "--constraints=requirements/setup.txt"],
    "dev": ["pyproject.toml", "--extra=dev", "--constraints=requirements/runtime.txt"],
}


def main(options: list[str]) -> None:
    environment = os.environ | {"UV_CACHE_DIR": str(ROOT / ".cache/uv"), "UV_PYTHON_DOWNLOADS": "never"}
    for name, sources in SETS.items():
        output = f"--output-file=requirements/{name}.txt"
        subprocess.run(
            ["uv", "pip", "compile", *STYLE, *sources, output, *options], cwd=ROOT, env=environment, check=True
        )


if __name__ == "__main__":
    main(sys.argv[1:])
