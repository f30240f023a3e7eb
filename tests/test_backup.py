"""A backup is whole or it is none, and what comes out of it goes on, on either side, however old it is."""

from __future__ import annotations

import asyncio
import http.client
import json
import resource
import shutil
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bct.backends import keyfile
from bct.backends.database import Database
from bct.backends.ledger import Ledger
from bct.bitcoin.chain import Network
from bct.channel.store import SavedPayee
from bct.cli import backup
from bct.cli.home import Home
from bct.errors import AuthError, BctError, ConfigError, StoreError
from bct.pay import records
from bct.pay.records import Bought
from bct.units import Infohash, PieceIndex
from tests.channel_parts import FILM, FUNDING, NOW, params
from tests.film import BUNNY
from tests.interop.clients import free_port
from tests.machine import Machine
from tests.test_cli_service import Town, top_up

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
PRICE, PIECES = 5, 5


def a_home(root: Path, passphrase: str = "", channels: tuple[SavedPayee, ...] = ()) -> Home:
    """A wallet, a setting, a database, and seven pieces in the ledger."""
    home = Home(root)
    home.make()
    keyfile.create(home.wallet, WORDS, Network.REGTEST, passphrase)
    home.config.write_text("[wire]\nmax_peers = 7\n")

    async def fill() -> None:
        database = await Database.open(home.database)
        for saved in channels:
            await database.channels.add_payee(saved)
        await database.close()
        ledger = Ledger.open(home.spent, lambda _: None)
        for n in range(7):
            ledger.append(records.encode(Bought(FUNDING, 0, Infohash(bytes(20)), PieceIndex(n), 5)))
        await ledger.close()

    asyncio.run(fill())
    return home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return a_home(tmp_path / "home")


@pytest.fixture
def made(home: Home, tmp_path: Path) -> Path:
    backup.write(home, Network.REGTEST, tmp_path / "backup.zip")
    return tmp_path / "backup.zip"


def verified(file: Path, passphrase: str = "") -> backup.Contents:
    return asyncio.run(backup.verify(file, passphrase))


def restored(file: Path, root: Path, passphrase: str = "") -> backup.Contents:
    return asyncio.run(backup.restore(Home(root), file, passphrase))


def left(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


# -- the file ---------------------------------------------------------------------------------------------------------


def test_what_was_there_is_there_again(home: Home, made: Path, tmp_path: Path) -> None:
    assert made.stat().st_mode & 0o777 == 0o600
    assert left(tmp_path) == ["backup.zip", "home"]
    contents = restored(made, tmp_path / "anew")
    assert contents == verified(made)
    assert (contents.network, contents.sealed, contents.bought) == ("regtest", False, 7)
    anew = Home(tmp_path / "anew")
    for old, new in ((home.wallet, anew.wallet), (home.config, anew.config), (home.spent, anew.spent)):
        assert new.read_bytes() == old.read_bytes()
        assert new.stat().st_mode & 0o777 == 0o600
    assert keyfile.read_words(anew.wallet, Network.REGTEST) == WORDS
    assert anew.root.stat().st_mode & 0o777 == 0o700
    assert left(tmp_path) == ["anew", "backup.zip", "home"]


def test_a_node_that_never_ran_has_its_wallet_to_keep(tmp_path: Path) -> None:
    fresh = Home(tmp_path / "home")
    fresh.make()
    keyfile.create(fresh.wallet, WORDS, Network.REGTEST)
    backup.write(fresh, Network.REGTEST, tmp_path / "backup.zip")
    assert restored(tmp_path / "backup.zip", tmp_path / "anew").titles == 0
    with pytest.raises(ConfigError, match="no wallet"):
        backup.write(Home(tmp_path / "nowhere"), Network.REGTEST, tmp_path / "other.zip")


def test_nothing_is_overwritten(home: Home, made: Path, tmp_path: Path) -> None:
    before = made.read_bytes()
    with pytest.raises(ConfigError, match=r"backup.zip is there already: choose another name"):
        backup.write(home, Network.REGTEST, made)
    with pytest.raises(ConfigError, match=r"home is not empty: move it away first"):
        restored(made, home.root)
    assert made.read_bytes() == before
    assert left(tmp_path) == ["backup.zip", "home"]


def test_any_damage_is_seen_or_does_no_harm(home: Home, made: Path, tmp_path: Path) -> None:
    """A few bits of a ZIP mean nothing. All others end in one sentence, and leave no directory behind."""
    whole, dice, said = bytearray(made.read_bytes()), Random(1), list[str]()
    for _ in range(60):
        broken = bytearray(whole)
        broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
        made.write_bytes(broken)
        try:
            restored(made, tmp_path / "anew")
        except BctError as error:
            said.append(str(error))
            assert left(tmp_path) == ["backup.zip", "home"]
        else:
            assert (tmp_path / "anew" / "payer.ledger").read_bytes() == home.spent.read_bytes()
            shutil.rmtree(tmp_path / "anew")
    assert len(said) > 50
    assert all("damaged" in one for one in said)


def test_a_part_of_a_backup_is_none(made: Path, tmp_path: Path) -> None:
    whole = made.read_bytes()
    for size in range(0, len(whole), len(whole) // 20):
        made.write_bytes(whole[:size])
        with pytest.raises(StoreError, match="no backup of bct, or damaged"):
            verified(made)
    with pytest.raises(StoreError, match="No such file"):
        verified(tmp_path / "nowhere.zip")


def edited(made: Path, target: Path, change: dict[str, object]) -> Path:
    """The backup with another manifest, and as its owner would never have made it."""
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(target, "w") as new:
        manifest = json.loads(old.read("manifest.json")) | change
        for name in old.namelist():
            new.writestr(name, old.read(name) if name != "manifest.json" else json.dumps(manifest))
    return target


def test_what_is_no_manifest_of_ours_is_refused(made: Path, tmp_path: Path) -> None:
    entry = {"size": 3, "sha256": "00" * 32}
    cases: list[tuple[dict[str, object], str]] = [
        ({"version": 2}, "version 2; this program knows 1: update bct"),
        ({"files": {"../evil": entry}}, r"it holds \.\./evil"),
        ({"files": {"wallet.json": entry}}, r"wallet\.json is not what its manifest says"),
        ({"files": {}}, "no wallet"),
        ({"files": {"payee.ledger": entry}}, r"There is no item named 'payee\.ledger'"),
        ({"network": "moon"}, "there is no network 'moon'"),
        ({"made": "monday"}, r"Expected `int`"),
    ]
    for number, (change, says) in enumerate(cases):
        with pytest.raises(BctError, match=says):
            verified(edited(made, tmp_path / f"{number}.zip", change))


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_is_packed_is_not_ours(made: Path, tmp_path: Path, how: int) -> None:
    """A packed file may be a thousand times as large when it is taken out, and is damaged in more ways."""
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(tmp_path / "packed.zip", "w", how) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(StoreError, match=r"or damaged: manifest\.json in it is packed"):
        verified(tmp_path / "packed.zip")


def test_words_that_are_sealed_stay_sealed(tmp_path: Path) -> None:
    backup.write(a_home(tmp_path / "home", "correct horse"), Network.REGTEST, tmp_path / "backup.zip")
    assert WORDS.encode() not in (tmp_path / "backup.zip").read_bytes()
    assert verified(tmp_path / "backup.zip").sealed
    assert not verified(tmp_path / "backup.zip", "correct horse").sealed
    with pytest.raises(AuthError, match="this passphrase does not open the wallet"):
        restored(tmp_path / "backup.zip", tmp_path / "anew", "battery staple")
    assert left(tmp_path) == ["backup.zip", "home"]


def test_channels_of_other_words_are_no_whole_backup(tmp_path: Path) -> None:
    strange = SavedPayee(params(), bytes(16), FILM, (), NOW, 900)
    backup.write(a_home(tmp_path / "home", channels=(strange,)), Network.REGTEST, tmp_path / "backup.zip")
    with pytest.raises(ConfigError, match="made with other twelve words than those of its wallet"):
        verified(tmp_path / "backup.zip")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 1000, 20_000])
def test_a_full_disk_leaves_nothing_half_done(home: Home, made: Path, tmp_path: Path, size: int) -> None:
    with files_of_at_most(size):
        with pytest.raises(StoreError, match=r"other\.zip cannot be made: File too large|disk I/O.*is the disk full"):
            backup.write(home, Network.REGTEST, tmp_path / "other.zip")
        with pytest.raises(StoreError, match="File too large"):
            restored(made, tmp_path / "anew")
    assert left(tmp_path) == ["backup.zip", "home"]
    assert restored(made, tmp_path / "anew").bought == 7


# -- nodes ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The bunny is on sale at the host, five pieces, none free."""
    root = tmp_path_factory.mktemp("town")
    host = Machine(root / "host")
    host.bct("init")
    with host.up():
        yield Town(root, host)


@pytest.fixture(scope="module")
def bunny(town: Town) -> dict[str, Any]:
    return published(town.host)


def published(creator: Machine) -> dict[str, Any]:
    return dict(creator.bct("publish", str(BUNNY), "--price", str(PRICE), "--free-seconds", "0"))


def watched(viewer: Machine, title: dict[str, Any], most: int | None = None) -> dict[str, Any]:
    """A play as far as `most` satoshis go, and not closed: its payment channel stays open."""
    play = viewer.node.post("/api/plays", {"link": title["link"], "max_sats": most})
    with urllib.request.urlopen(play["url"]) as film:
        try:
            film.read()
        except (http.client.IncompleteRead, OSError):
            assert most is not None
    return dict(viewer.node.get(f"/api/plays/{play['token']}"))


def channel_of(machine: Machine) -> dict[str, Any]:
    (channel,) = machine.node.get("/api/channels")
    return dict(channel)


def kept(machine: Machine, name: str) -> Path:
    """A backup of a node that is running."""
    file = machine.root.with_name(name)
    machine.bct("backup", str(file))
    return file


def lost(machine: Machine) -> Path:
    """The power goes, and the disk is no more. Where the films are: they lie elsewhere."""
    machine.kill()
    films = machine.root.with_name(f"{machine.root.name}.films")
    machine.home.titles.rename(films)
    shutil.rmtree(machine.root)
    return films


def test_a_viewer_that_comes_back_as_it_was_pays_nothing_twice(town: Town, bunny: dict[str, Any]) -> None:
    """THREATS 29: what it signed since its backup the seeder shows it, under its own signature."""
    viewer = town.machine("init")
    with viewer.up():
        top_up(viewer)
        first = watched(viewer, bunny, 80 + PRICE)
        assert 0 < first["bought"] < PIECES
        file = kept(viewer, "viewer.zip")
        before = channel_of(viewer)
        viewer.kill()
    with viewer.up():
        second = watched(viewer, bunny, PRICE)
        assert second["bought"] == 1
        films = lost(viewer)
    assert viewer.bct("restore", str(file), "--verify") == viewer.bct("restore", str(file))
    assert viewer.home.restored.exists()
    shutil.rmtree(films)
    with viewer.up():
        assert not viewer.home.restored.exists()
        assert channel_of(viewer)["paid"] == first["spent"] < before["capacity"]
        play = watched(viewer, bunny)
        assert play["here"] == PIECES
        assert play["fees"] == 0, "over the channel that was there"
        assert first["bought"] + second["bought"] + play["bought"] == PIECES
        viewer.bct("down")
    assert settled(town.host, before)["paid"] == PIECES * PRICE


def test_a_channel_that_is_younger_than_the_backup_is_found_on_the_chain(town: Town, bunny: dict[str, Any]) -> None:
    """THREATS 29: its seeder settles it, and the change comes home."""
    viewer = town.machine("init")
    with viewer.up():
        top_up(viewer)
        file = kept(viewer, "younger.zip")
        watched(viewer, bunny, 80 + PRICE)
        channel = channel_of(viewer)
        lost(viewer)
    viewer.bct("restore", str(file))
    with viewer.up():
        found = channel_of(viewer)
        assert (found["outpoint"], found["state"], found["expiry"]) == (
            channel["outpoint"],
            "closing",
            channel["expiry"],
        )
        town.host.bct("channels", "close", channel["outpoint"])
        ended = until_over(viewer)
        assert ended["change"] == channel["capacity"] - channel["paid"] - ended["fee"]


def test_a_seeder_that_comes_back_as_it_was_is_made_good(town: Town) -> None:
    """THREATS 28: it counts less than it was paid; the viewer hands in what it lacks, and pays nothing twice."""
    creator, viewer = town.machine("init"), town.machine("init")
    creator.env["BCT_WIRE__LISTEN_PORT"] = str(free_port())
    with creator.up(), viewer.up():
        top_up(viewer)
        title = published(creator)
        first = watched(viewer, title, 80 + PRICE)
        file = kept(creator, "creator.zip")
        viewer.kill()
        with viewer.up():
            second = watched(viewer, title, PRICE)
            channel = channel_of(viewer)
            films = lost(creator)
            creator.bct("restore", str(file))
            shutil.copytree(films, creator.home.titles, dirs_exist_ok=True)
            viewer.kill()
            with creator.up(), viewer.up():
                assert channel_of(creator)["paid"] == first["spent"]
                play = watched(viewer, title)
                assert (play["here"], play["fees"]) == (PIECES, 0)
                assert first["bought"] + second["bought"] + play["bought"] == PIECES
                viewer.bct("down")
                assert settled(creator, channel)["paid"] == PIECES * PRICE


def settled(machine: Machine, channel: dict[str, Any]) -> dict[str, Any]:
    (found,) = (one for one in machine.node.get("/api/channels") if one["outpoint"] == channel["outpoint"])
    assert found["txid"]
    return dict(found)


def until_over(machine: Machine) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while not (found := channel_of(machine))["txid"]:
        assert time.monotonic() < deadline, f"{found} has not ended"
        time.sleep(0.05)
    return found
