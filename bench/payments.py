"""What a payment costs the payee: from bytes on a connection to bytes that may leave, ledger included.

Against the bare verification of the same signatures by libsecp256k1, the one thing that cannot be left out. Both in
CPU-seconds of the whole process, all threads, for 1,000 payments; rounds alternate, medians count.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from bct.bitcoin.keys import PrivateKey
from bct.channel.payer import Payment
from bct.channel.transactions import Commitments
from bct.node.peer import Peer
from bct.pay.messages import VERSION, PiecePayment, Resume
from bct.torrent.connection import PeerConnection
from bct.torrent.extension import BCT_PAY, ExtendedHandshake
from bct.torrent.geometry import Block, PieceMap
from bct.torrent.metainfo import Metainfo, build_info
from bct.torrent.transport import Receiver
from bct.torrent.wire import Buffer
from bct.units import PieceIndex
from bench import market
from bench.row import Row

VIEWERS, EACH = 50, 80
ROUNDS = 5
GOAL = 2.2
PIECE = 16 * 1024


def rows() -> list[Row]:
    ours, bare = [], []
    for _ in range(ROUNDS):
        spent, verified = asyncio.run(_round())
        ours.append(spent)
        bare.append(verified)
    per = 1000 / (VIEWERS * EACH)
    name = "take 1,000 payments: bytes, checks, ledger, gate"
    against = "libsecp256k1 verifying the same signatures"
    return [Row(name, median(ours) * per, "CPU-s", against, median(bare) * per, "", GOAL)]


class Sink:
    """A `Connection` that swallows what is said, as fast as a peer ever could."""

    LOW_WATER = 1 << 20
    remote = ("127.0.0.1", 1)
    buffered = 0

    def __init__(self) -> None:
        self.said = bytearray()
        self.sent = 0

    def start(self, receiver: Receiver) -> None: ...
    def send(self, buffers: Sequence[Buffer]) -> None:
        self.sent += sum(map(len, buffers))
        if self.sent < 100_000:
            for buffer in buffers:
                self.said += buffer

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...


class Pieces:
    """A `PieceStore` of one piece's bytes, again and again."""

    def __init__(self, count: int) -> None:
        self.pieces = PieceMap(count, full=True)
        self._piece = memoryview(os.urandom(PIECE))

    def read(self, index: PieceIndex) -> memoryview:
        return self._piece

    def write(self, index: PieceIndex, data: Buffer) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...


async def _round() -> tuple[float, float]:
    count = EACH + 1
    metainfo = Metainfo.from_info(build_info("film", count * PIECE, PIECE, [bytes(20)] * count))
    with tempfile.TemporaryDirectory() as directory:
        hub, _, till, ledger = await market.selling(Path(directory), metainfo, Pieces(count), VIEWERS)
        connections = [Sink() for _ in range(VIEWERS)]
        peers = [Peer(connection, hub, None, time.monotonic()) for connection in connections]
        bought = [
            _flights(peer, sink, metainfo, n) for n, (peer, sink) in enumerate(zip(peers, connections, strict=True))
        ]
        flights = [[flight for flight, _ in one] for one in bought]
        before = sum(connection.sent for connection in connections)

        started = time.process_time()
        for turn in zip(*flights, strict=True):
            for peer, flight in zip(peers, turn, strict=True):
                peer.received(memoryview(flight))
            await ledger.wait(ledger.appended)  # as many records as came in one turn of a busy loop
        spent = time.process_time() - started

        served = sum(connection.sent for connection in connections) - before
        paid = sum(earning.account.payee.paid for earning in till.earnings.values())
        if paid != VIEWERS * EACH or served < paid * PIECE:
            raise RuntimeError(f"{paid} paid, {served} bytes served: this measures something else")
        bare = sum(verify_alone([payment for _, payment in one], n) for n, one in enumerate(bought))
        await ledger.close()
    return spent, bare


def _flights(peer: Peer, connection: Sink, metainfo: Metainfo, number: int) -> list[tuple[bytes, Payment]]:
    """All that one viewer will send, a piece at a time."""
    wire = resumed_viewer(peer, connection, metainfo, number)
    payer, key, now = market.payer(number), market.viewer_key(number), int(time.time())
    payments = [payer.pay(0, 1, key, now=now) for _ in range(EACH)]
    return [(_flight(wire, payment, index + 1), payment) for index, payment in enumerate(payments)]


def resumed_viewer(peer: Peer, connection: Sink, metainfo: Metainfo, number: int) -> PeerConnection:
    """The wire of a viewer that has shaken hands and resumed its channel."""
    wire = PeerConnection(
        os.urandom(20), metainfo.infohash, metainfo.geometry, extensions={7: BCT_PAY}, queue_limit=500
    )
    random, identity = os.urandom(16), PrivateKey(os.urandom(32))
    _carry(wire, peer, connection)
    net = market.NETWORK.value
    wire.send_extended_handshake(
        ExtendedHandshake(bct={b"v": VERSION, b"net": net, b"random": random, b"id": identity.public})
    )
    _carry(wire, peer, connection)
    if peer.context is None:
        raise RuntimeError("no extended handshake")
    message = Resume(1, market.params(number).outpoint.pack())
    key = market.viewer_key(number)
    signed = replace(message, signature=key.sign(peer.context.digest(message)))
    wire.send_extension(BCT_PAY, signed.encode())
    _carry(wire, peer, connection)
    return wire


def _carry(wire: PeerConnection, peer: Peer, connection: Sink) -> None:
    peer.received(memoryview(b"".join(wire.data_to_send())))
    said, connection.said = bytes(connection.said), bytearray()
    wire.receive_data(said)


def _flight(wire: PeerConnection, payment: Payment, index: int) -> bytes:
    """A payment and the request it pays for, as they leave in one flush."""
    line, total, signature = payment.line, payment.total, payment.signature
    wire.send_extension(BCT_PAY, PiecePayment(1, line, total, signature).encode())
    wire.request([Block(index, 0, PIECE)])
    return b"".join(wire.data_to_send())


def verify_alone(payments: Sequence[Payment], number: int) -> float:
    """The library alone, as close to its C function as Python gets; digests and keys are ready."""
    commitments = Commitments(market.params(number), (market.PAYEES,))
    point = ffi.new("secp256k1_pubkey *")
    lib.secp256k1_ec_pubkey_parse(GLOBAL_CONTEXT.ctx, point, market.viewer_key(number).public, 33)
    jobs = [(commitments.digest((p.total,)), p.signature) for p in payments]
    signature = ffi.new("secp256k1_ecdsa_signature *")
    good = 0
    started = time.process_time()
    for digest, compact in jobs:
        lib.secp256k1_ecdsa_signature_parse_compact(GLOBAL_CONTEXT.ctx, signature, compact)
        good += lib.secp256k1_ecdsa_verify(GLOBAL_CONTEXT.ctx, signature, digest, point)
    spent = time.process_time() - started
    if good != len(jobs):
        raise RuntimeError(f"{good} of {len(jobs)} signatures verify")
    return spent
