"""Words and keys against the official vectors, and what a person who mistypes is told."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.hd import HARDENED, ExtendedKey, check_words, seed_of_words, words_of_entropy
from bct.bitcoin.keys import sha256d
from bct.errors import ConfigError, LocalProtocolError

VECTORS = Path(__file__).parents[1] / "vectors"
BIP32: list[dict[str, Any]] = json.loads((VECTORS / "bip32.json").read_text())["vectors"]
BIP39: list[dict[str, str]] = json.loads((VECTORS / "bip39.json").read_text())["vectors"]
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


def opened(xprv: str) -> tuple[bytes, bytes]:
    """(secret, chain code) out of a serialised extended key; its checksum guards this file's own typing."""
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number = list(accumulate(xprv, lambda n, c: n * 58 + alphabet.index(c), initial=0))[-1]
    raw = number.to_bytes(82)
    assert sha256d(raw[:78])[:4] == raw[78:]
    return raw[46:78], raw[13:45]


def parts(key: ExtendedKey) -> tuple[bytes, bytes]:
    return key.key.secret, key.chain_code


def steps(path: str) -> list[int]:
    names = path.split("/")[1:]
    return [int(name.rstrip("'")) + HARDENED * name.endswith("'") for name in names]


@pytest.mark.parametrize("vector", BIP39, ids=lambda v: v["words"].split()[0])
def test_words_seed_and_root_key_are_those_of_bip39(vector: dict[str, str]) -> None:
    words = words_of_entropy(bytes.fromhex(vector["entropy"]))
    assert words == vector["words"] == check_words(words)
    seed = seed_of_words(words, "TREZOR")
    assert seed.hex() == vector["seed"]
    assert parts(ExtendedKey.from_seed(seed)) == opened(vector["xprv"])


@pytest.mark.parametrize("vector", BIP32, ids=lambda v: v["seed"][:8])
def test_each_key_of_bip32_is_found_from_the_root(vector: dict[str, Any]) -> None:
    root = ExtendedKey.from_seed(bytes.fromhex(vector["seed"]))
    for path, xprv in vector["keys"].items():
        assert parts(root.derive(steps(path))) == opened(xprv), path


def test_a_child_is_a_path_of_one_step() -> None:
    root = ExtendedKey.from_seed(bytes(16))
    assert parts(root.child(7)) == parts(root.derive([7]))
    assert parts(root.child(7, hardened=True)) == parts(root.derive([7 + HARDENED]))
    assert parts(root.child(7)) != parts(root.child(7, hardened=True))


@pytest.mark.parametrize("index", [-1, HARDENED])
def test_an_index_beyond_its_half_is_our_bug(index: int) -> None:
    with pytest.raises(LocalProtocolError, match=str(index)):
        ExtendedKey.from_seed(bytes(16)).child(index)


def test_the_passphrase_makes_another_wallet() -> None:
    assert seed_of_words(WORDS) != seed_of_words(WORDS, "x")


def test_words_may_be_typed_carelessly() -> None:
    assert check_words(f"  {WORDS.upper()}\n".replace(" ", "  ")) == WORDS


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("legal winner thank", "12 words, got 3"),
        (WORDS.replace("thank", "thanks", 1), "word 3 is not one of the 2,048"),
        (WORDS.replace("thank year", "year thank"), "do not belong together"),
        (WORDS.replace("yellow", "zoo"), "do not belong together"),
    ],
)
def test_a_slip_is_named_and_the_word_is_not_shown(typed: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        check_words(typed)
    assert "thanks" not in str(error.value)


@given(st.binary(min_size=16, max_size=16))
def test_any_entropy_gives_words_that_check(entropy: bytes) -> None:
    assert check_words(words_of_entropy(entropy)) == words_of_entropy(entropy)


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_other_sizes_of_entropy_are_our_bug(size: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"got {size}"):
        words_of_entropy(bytes(size))


def test_secrets_are_not_shown() -> None:
    key = ExtendedKey.from_seed(bytes(16))
    assert key.key.secret.hex() not in repr(key)
    assert key.chain_code.hex() not in repr(key)
