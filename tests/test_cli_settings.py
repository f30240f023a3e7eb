"""One setting, three spellings: the file, the environment, the flag; and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bct.cli import settings
from bct.cli.home import Home
from bct.config import Config
from bct.errors import BctError, ChainError, ConfigError


def load(tmp_path: Path, toml: str = "", env: dict[str, str] | None = None, *flags: str) -> Config:
    file = tmp_path / "config.toml"
    file.write_text(toml)
    return settings.load(file, env or {}, flags, None)


def test_nothing_said_is_the_default(tmp_path: Path) -> None:
    assert settings.load(tmp_path / "none.toml", {"PATH": "/bin", "BCT_DATA_DIR": "/x"}, (), None) == Config()


def test_a_flag_beats_the_environment_beats_the_file(tmp_path: Path) -> None:
    toml = "[wire]\nmax_peers = 1\nlisten_port = 1\nrequest_queue = 1\nkeepalive = 50"
    env = {"BCT_WIRE__MAX_PEERS": "2", "BCT_WIRE__LISTEN_PORT": "2"}
    wire = load(tmp_path, toml, env, "wire.max_peers=3").wire
    assert (wire.max_peers, wire.listen_port, wire.request_queue, wire.keepalive) == (3, 2, 1, 50.0)


@pytest.mark.parametrize(
    ("toml", "env", "flags", "says"),
    [
        ("[wire]\nmax_pears = 1", {}, (), "there is no setting wire.max_pears; wire has listen_host"),
        ("[wires]\nmax_peers = 1", {}, (), "there is no section 'wires', only chain, wire, channel, api"),
        ("max_peers = 1", {}, (), "stands outside of a section"),
        ("[wire", {}, (), "config.toml cannot be read"),
        ("[wire]\nmax_peers = 1.5", {}, (), "wire.max_peers is a whole number, got 1.5"),
        ("[wire]\nmax_peers = true", {}, (), "wire.max_peers is a whole number, got True"),
        ("[wire]\nlisten_host = 5", {}, (), "wire.listen_host is text, got 5"),
        ("", {"BCT_API__PORT": "many"}, (), "the environment's BCT_API__PORT: api.port is a whole number, got 'many'"),
        ("", {"BCT_API__PROT": "1"}, (), "there is no setting api.prot"),
        ("", {}, ("api.port",), "--set section.key=value"),
        ("", {}, ("port=1",), "--set section.key=value"),
        ("", {}, ("api.nope=1",), "--set api.nope: there is no setting"),
    ],
)
def test_a_wrong_setting_is_named_with_where_it_stands(
    tmp_path: Path, toml: str, env: dict[str, str], flags: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml, env, *flags)
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


def test_other_networks_are_refused_wherever_they_are_asked_for(tmp_path: Path) -> None:
    for toml, network in (("", "main"), ('[chain]\nnetwork = "test"', None)):
        (tmp_path / "config.toml").write_text(toml)
        with pytest.raises(ChainError, match="regtest only") as caught:
            settings.load(tmp_path / "config.toml", {}, (), network)
        assert caught.value.exit_code == 69


def test_the_data_directory_is_the_flags_then_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCT_DATA_DIR", str(tmp_path / "env"))
    assert Home.at(tmp_path / "flag").root == tmp_path / "flag"
    assert Home.at(None).root == tmp_path / "env"
    monkeypatch.delenv("BCT_DATA_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert Home.at(None).root == tmp_path / "xdg" / "bct"


def test_each_error_has_a_word_that_programs_can_rely_on() -> None:
    words = {kind.word() for kind in BctError.__subclasses__()}
    assert {"config", "wallet-locked", "not-running", "funds", "local-protocol"} <= words
