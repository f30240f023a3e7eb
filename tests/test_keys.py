"""Signatures as they travel: 64 bytes, one encoding only, and a verdict that nothing on the side can change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bct.bitcoin.keys import (
    ORDER,
    PrivateKey,
    Verifier,
    compact_to_der,
    der_to_compact,
    is_public_key,
    sha256,
    verify,
)

KEY = PrivateKey(sha256(b"somebody"))
DIGEST = sha256(b"what is signed")
SIGNATURE = KEY.sign(DIGEST)


def test_a_signature_is_verified_under_its_own_key_and_digest_only() -> None:
    assert verify(KEY.public, DIGEST, SIGNATURE)
    assert not verify(PrivateKey(sha256(b"another")).public, DIGEST, SIGNATURE)
    assert not verify(KEY.public, sha256(b"something else"), SIGNATURE)


def test_the_same_signature_with_its_high_s_is_refused() -> None:
    """THREATS 13: both are valid to the curve; taking both would let anybody change a transaction's id."""
    high = SIGNATURE[:32] + (ORDER - int.from_bytes(SIGNATURE[32:])).to_bytes(32)
    assert not verify(KEY.public, DIGEST, high)


@pytest.mark.parametrize("part", [0, ORDER, 2**256 - 1])
def test_numbers_outside_the_curve_are_no_signature(part: int) -> None:
    assert not verify(KEY.public, DIGEST, part.to_bytes(32) + SIGNATURE[32:])
    assert not verify(KEY.public, DIGEST, SIGNATURE[:32] + part.to_bytes(32))


@pytest.mark.parametrize("size", [0, 63, 65, 72])
def test_a_signature_is_64_bytes(size: int) -> None:
    assert not verify(KEY.public, DIGEST, (SIGNATURE * 2)[:size])


def test_what_is_no_point_is_no_key_and_verifies_nothing() -> None:
    no_point = b"\x02" + b"\xff" * 32
    uncompressed = b"\x04" + KEY.public[1:] * 2
    for public in (b"", no_point, KEY.public[:-1], KEY.public + b"\0", uncompressed, b"\x06" + KEY.public[1:]):
        assert not is_public_key(public)
        assert not verify(public, DIGEST, SIGNATURE)
    assert is_public_key(KEY.public)


@given(st.binary(min_size=32, max_size=32))
def test_der_and_back_is_the_same_signature(digest: bytes) -> None:
    signature = KEY.sign(digest)
    der = compact_to_der(signature)
    assert der_to_compact(der) == signature
    assert len(der) <= 71  # low s: with the sighash byte at most 72, which the fee counts on


@pytest.mark.parametrize("secret", [b"", b"\0" * 32, ORDER.to_bytes(32), b"\1" * 31, b"\1" * 33])
def test_a_private_key_is_a_number_below_the_order(secret: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        PrivateKey(secret)


def test_a_private_key_does_not_print_its_secret() -> None:
    assert KEY.secret.hex() not in repr(KEY)
    assert KEY.public.hex() in repr(KEY)


def test_threads_that_verify_under_one_key_do_not_mix_their_signatures() -> None:
    """The curve library runs without the interpreter's lock, so nothing may be shared between two calls."""
    verifier = Verifier(KEY.public)
    digests = [sha256(bytes((i,))) for i in range(4)]
    signed = [(digest, KEY.sign(digest)) for digest in digests]

    def check_often(pair: tuple[bytes, bytes]) -> bool:
        return all(verifier.verify(*pair) for _ in range(8_000))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(check_often, signed))
