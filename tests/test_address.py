"""Addresses: known ones, every slip caught, one spelling each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin import address
from bct.bitcoin.chain import Network
from bct.errors import ConfigError
from bct.units import PubKeyHash

GENESIS = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"
GENESIS_HASH = PubKeyHash(bytes.fromhex("62e907b15cbf27d5425399ebf6f0fb50ebb88f18"))
hashes = st.binary(min_size=20, max_size=20).map(PubKeyHash)


def test_the_address_of_the_first_coin() -> None:
    assert address.encode(GENESIS_HASH, Network.MAIN) == GENESIS
    assert address.decode(GENESIS, Network.MAIN) == GENESIS_HASH


def test_the_hash_of_nothing_keeps_its_leading_zeros() -> None:
    nothing = PubKeyHash(bytes(20))
    assert address.encode(nothing, Network.MAIN) == "1111111111111111111114oLvT2"
    assert address.decode("1111111111111111111114oLvT2", Network.MAIN) == nothing


@given(hashes, st.sampled_from(Network))
def test_what_is_written_is_read(pubkey_hash: PubKeyHash, network: Network) -> None:
    assert address.decode(address.encode(pubkey_hash, network), network) == pubkey_hash


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GENESIS[:-1] + "b", "slip"),
        (GENESIS[::-1], "slip"),
        ("1" + GENESIS, "slip"),
        (GENESIS[1:], "slip"),
        ("", "slip"),
        ("0" + GENESIS[1:], "'0' does not occur"),
        (GENESIS + " ", "' ' does not occur"),
        (GENESIS * 2, "too long"),
        ("z" * 35, "too long"),
        ("3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy", "single key"),  # pay to script hash
    ],
)
def test_a_slip_is_told(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        address.decode(text, Network.MAIN)


def test_another_networks_address_is_refused() -> None:
    with pytest.raises(ConfigError, match="regtest"):
        address.decode(GENESIS, Network.REGTEST)
