"""wallet.json: what opens it, what does not, and that nothing of the words shows where it should not."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from bct.backends.keyfile import create, load, read_words
from bct.bitcoin.chain import Network
from bct.errors import AuthError, ConfigError, StoreError, WalletLockedError
from bct.wallet.paths import IDENTITY, RECEIVE, payee
from bct.wallet.paths import Path as KeyPath

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
OTHER_WORDS = "letter advice cage absurd amount doctor acoustic avoid letter advice cage above"
COLLECTING: list[KeyPath] = [IDENTITY, payee(bytes(16))]
SPENDING: KeyPath = (*RECEIVE, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wallet.json"


def changed(path: Path, **fields: Any) -> None:
    """Rewrites parts of the wallet, and its checksum with them, as somebody with the file would."""
    wallet = json.loads(path.read_text())["wallet"] | fields
    wallet = {name: value for name, value in wallet.items() if value is not None}
    order = ("version", "network", "identity", "payee", "payout", "words", "sealed")
    body = {name: wallet.get(name) for name in order}
    check = sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest()
    path.write_text(json.dumps({"wallet": body, "check": check}))


def test_a_plain_wallet_opens_by_itself_and_is_the_owners_alone(path: Path) -> None:
    made, loaded = create(path, WORDS, Network.TEST), load(path, Network.TEST)
    assert not loaded.locked
    assert path.stat().st_mode & 0o777 == 0o600
    for key in (*COLLECTING, SPENDING):
        assert loaded.key(key).public == made.key(key).public
    assert read_words(path, Network.TEST) == WORDS
    assert list(path.parent.iterdir()) == [path]


def test_a_sealed_wallet_settles_while_locked_and_spends_once_open(path: Path) -> None:
    made = create(path, WORDS, Network.REGTEST, "corréct horse")
    text = path.read_text()
    assert not [word for word in WORDS.split() if word in text]
    locked = load(path, Network.REGTEST)
    assert locked.locked
    assert locked.payout == made.payout
    for key in COLLECTING:
        assert locked.key(key).public == made.key(key).public
    with pytest.raises(WalletLockedError):
        locked.key(SPENDING)
    with pytest.raises(WalletLockedError):
        read_words(path, Network.REGTEST)
    decomposed = "corre\N{COMBINING ACUTE ACCENT}ct horse"
    assert load(path, Network.REGTEST, decomposed).key(SPENDING).public == made.key(SPENDING).public
    assert read_words(path, Network.REGTEST, decomposed) == WORDS


def test_a_wrong_passphrase_is_told_from_damage(path: Path) -> None:
    create(path, WORDS, Network.REGTEST, "correct horse")
    with pytest.raises(AuthError, match="does not open"):
        load(path, Network.REGTEST, "battery staple")
    sound = path.read_text()
    for at in (sound.index('"text"') + 12, sound.index('"payee"') + 12, sound.index('"check"') + 12):
        path.write_text(sound[:at] + ("0" if sound[at] != "0" else "1") + sound[at + 1 :])
        with pytest.raises(StoreError, match="damaged or was changed"):
            load(path, Network.REGTEST, "correct horse")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff\xfe", b"[1]", b'{"wallet": {"version": "1"}, "check": ""}', b'{"check": "\xbb"}']
)
def test_what_is_no_wallet_is_said(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StoreError, match="is no wallet, or damaged"):
        load(path, Network.REGTEST)


def test_a_wallet_others_may_read_is_refused(path: Path) -> None:
    create(path, WORDS, Network.REGTEST)
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(ConfigError, match="chmod 600"):
            load(path, Network.REGTEST)


def test_a_wallet_of_another_network_or_version_is_refused(path: Path) -> None:
    create(path, WORDS, Network.TEST)
    with pytest.raises(ConfigError, match="for network test, this node runs on main"):
        load(path, Network.MAIN)
    changed(path, version=2)
    with pytest.raises(ConfigError, match="version 2; this program knows version 1"):
        load(path, Network.TEST)


def test_a_sealed_wallet_cannot_be_moved_to_another_network(path: Path) -> None:
    create(path, WORDS, Network.TEST, "correct horse")
    changed(path, network="main")
    with pytest.raises(AuthError):
        load(path, Network.MAIN, "correct horse")


@pytest.mark.parametrize("passphrase", ["", "correct horse"])
def test_keys_slipped_in_beside_the_words_are_found_out(tmp_path: Path, passphrase: str) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    create(mine, WORDS, Network.TEST, passphrase)
    create(theirs, OTHER_WORDS, Network.TEST)
    for name in ("identity", "payee", "payout"):
        good = json.loads(mine.read_text())["wallet"][name]
        changed(mine, **{name: json.loads(theirs.read_text())["wallet"][name]})
        with pytest.raises(StoreError, match="not those of its words"):
            load(mine, Network.TEST, passphrase)
        with pytest.raises(StoreError, match="not those of its words"):
            read_words(mine, Network.TEST, passphrase)
        changed(mine, **{name: good})
    load(mine, Network.TEST, passphrase)


def test_keys_that_are_none_are_found_out_before_the_words_are_there(path: Path) -> None:
    create(path, WORDS, Network.TEST, "correct horse")
    sealed = json.loads(path.read_text())["wallet"]["sealed"]
    for fields in ({"identity": "A" * 43 + "="}, {"payee": "/" * 86 + "=="}, {"sealed": sealed | {"nonce": "AAAA"}}):
        good = json.loads(path.read_text())["wallet"]
        changed(path, **fields)
        with pytest.raises(StoreError, match="restore it from the twelve words"):
            load(path, Network.TEST)
        changed(path, **good)


def test_a_wallet_that_is_there_is_never_written_over(path: Path) -> None:
    create(path, WORDS, Network.TEST)
    with pytest.raises(ConfigError, match="there already"):
        create(path, OTHER_WORDS, Network.TEST)
    assert read_words(path, Network.TEST) == WORDS


def test_a_place_without_a_wallet_is_said(path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no wallet"):
        load(path, Network.TEST)
    with pytest.raises(StoreError, match="No such file"):
        create(path.parent / "missing" / "wallet.json", WORDS, Network.TEST)
