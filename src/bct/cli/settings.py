"""`bct.config` filled from config.toml, the environment and flags, in this order; a later one wins.

One setting has one name: ``max_peers`` under ``[wire]`` in the file, ``BCT_WIRE__MAX_PEERS`` in the environment,
``--set wire.max_peers=200`` as a flag. A name that does not exist is an error, never ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NamedTuple

from bct.config import ApiConfig, ChainConfig, ChannelConfig, Config, WatchmanConfig, WireConfig
from bct.errors import ChainError, ConfigError

_SECTIONS: dict[str, type] = {
    "chain": ChainConfig,
    "wire": WireConfig,
    "channel": ChannelConfig,
    "api": ApiConfig,
    "watchman": WatchmanConfig,
}
_PREFIX = "BCT_"
_TEXTS = "tuple[str, ...]"
_KINDS = {"str": "text", "int": "a whole number", "float": "a number", _TEXTS: "a list of texts"}


class Given(NamedTuple):
    """One setting as somebody wrote it. source: for the error message."""

    section: str
    key: str
    value: object
    source: str


def load(file: Path, environment: Mapping[str, str], flags: Iterable[str], network: str | None) -> Config:
    """flags: ``section.key=value``. network: of --network, None when it was not said.

    Raises ConfigError that names the setting, and where it was given; ChainError for a network that this version
    does not run on.
    """
    values: dict[str, dict[str, object]] = {section: {} for section in _SECTIONS}
    for given in (*_of_file(file), *_of_environment(environment), *map(_of_flag, flags)):
        values[given.section][given.key] = _convert(given)
    if network:
        values["chain"]["network"] = network
    config = Config(**{section: kind(**values[section]) for section, kind in _SECTIONS.items()})
    if config.chain.network != "regtest":
        raise ChainError(f"this version runs on regtest only, not on network {config.chain.network!r}")
    return config


def _of_file(file: Path) -> Iterator[Given]:
    try:
        content = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    for section, entries in content.items():
        if not isinstance(entries, dict):
            raise ConfigError(f"{file}: {section} stands outside of a section: write it below one of {_sections()}")
        for key, value in entries.items():
            yield Given(section, key, value, str(file))


def _of_environment(environment: Mapping[str, str]) -> Iterator[Given]:
    for name, value in environment.items():
        section, found, key = name.removeprefix(_PREFIX).partition("__")
        if name.startswith(_PREFIX) and found:
            yield Given(section.lower(), key.lower(), value, f"the environment's {name}")


def _of_flag(flag: str) -> Given:
    name, found, value = flag.partition("=")
    section, dot, key = name.partition(".")
    if not found or not dot:
        raise ConfigError(f"--set {flag}: write it as --set section.key=value, for example --set wire.listen_port=0")
    return Given(section, key, value, f"--set {name}")


def _convert(given: Given) -> object:
    kind = _kind(given)
    value = given.value
    if kind == _TEXTS:
        return _texts(given)
    fits = {"str": isinstance(value, str), "int": type(value) is int, "float": type(value) in (int, float)}[kind]
    if fits:
        return value
    if not isinstance(value, str):
        raise _misfit(given, kind)
    try:
        return int(value) if kind == "int" else float(value)
    except ValueError:
        raise _misfit(given, kind) from None


def _texts(given: Given) -> tuple[str, ...]:
    """A list of the file's; elsewhere texts with blanks between."""
    texts = given.value.split() if isinstance(given.value, str) else given.value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _misfit(given, _TEXTS)
    return tuple(texts)


def _kind(given: Given) -> str:
    """The setting's type, by name. Raises ConfigError, with the names that exist, when there is none."""
    if given.section not in _SECTIONS:
        raise ConfigError(f"{given.source}: there is no section {given.section!r}, only {_sections()}")
    known: dict[str, Field[Any]] = {field.name: field for field in fields(_SECTIONS[given.section])}
    if given.key not in known:
        text = f"there is no setting {given.section}.{given.key}; {given.section} has {', '.join(known)}"
        raise ConfigError(f"{given.source}: {text}")
    return str(known[given.key].type)


def _misfit(given: Given, kind: str) -> ConfigError:
    return ConfigError(f"{given.source}: {given.section}.{given.key} is {_KINDS[kind]}, got {given.value!r}")


def _sections() -> str:
    return ", ".join(_SECTIONS)
