"""The demo for real, and that it fails when what it claims is not so: an open gate, a wrong split, a late payment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bct.backends.chain_node import ChainNode
from bct.backends.regtest_miner import RegtestMiner
from bct.backends.regtest_node import RegtestNode
from bct.bitcoin import address
from bct.bitcoin.chain import Network
from bct.bitcoin.tx import Tx
from bct.cli.demo.judge import Encore, Figures, Seen, judge
from bct.units import PubKeyHash, txid_hex
from tests.nodes import running_node
from tests.test_paid_viewing import fund, publish, watch
from tools.watch_wire import Call, Count, Frames

ROOT = Path(__file__).parent.parent
DEMO = (sys.executable, "-m", "bct.cli", "demo")
SECONDS = 240

OPEN_GATE = """\
import sys

if "up" in sys.orig_argv and sys.orig_argv[-1].endswith("/seeder"):
    from bct.node.swarm import Swarm
    from bct.pay.account import Verdict

    def extended(self, peer, handshake, met=Swarm.extended):
        met(self, peer, handshake)
        if peer.context is None:
            for piece in self.store.pieces:
                peer.wire.have(piece)
            peer.flush()

    Swarm.extended = extended
    Swarm.gate = lambda self, peer, block: Verdict.SERVE
"""


def run_demo(folder: Path, *words: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """How it ended, and its figures. What it leaves behind stays in `folder`."""
    figures = folder / "figures.json"
    done = subprocess.run(
        [*DEMO, "--json", str(figures), *words],
        env=os.environ | environment | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done, json.loads(figures.read_text())


def test_the_demo(tmp_path: Path) -> None:
    done, figures = run_demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(figures) == [
        *("pieces_total", "pieces_free", "pieces_paid", "satoshi_paid", "creator_satoshi", "seeder_satoshi"),
        *("payer_change_satoshi", "capacity_satoshi", "onchain_fee_satoshi", "onchain_txs"),
        *("funding_txid", "settlement_txid", "payment_bytes_each", "first_byte_ms", "elapsed_s"),
        *("sha256_match", "unpaid_bytes_leaked", "chain_matches_ledger", "decoded_frames"),
    ]
    got = Figures(**figures)
    assert got.pieces_paid >= 62
    assert got.pieces_total == got.pieces_free + got.pieces_paid
    assert got.satoshi_paid == got.pieces_paid == got.creator_satoshi + got.seeder_satoshi
    assert got.creator_satoshi == got.satoshi_paid * 6000 // 10_000
    assert got.onchain_txs == 2
    assert got.onchain_fee_satoshi <= 75
    funding_fee = got.onchain_fee_satoshi - (got.capacity_satoshi - got.satoshi_paid - got.payer_change_satoshi)
    assert 0 < funding_fee < got.onchain_fee_satoshi
    assert (got.payment_bytes_each, got.unpaid_bytes_leaked, got.decoded_frames) == (80, 0, 1500)
    assert got.sha256_match
    assert got.chain_matches_ledger
    assert {len(got.funding_txid), len(got.settlement_txid)} == {64}
    assert "All of it is so" in done.stdout
    assert "2 transactions, 0 of them for the second title" in done.stdout
    assert got.funding_txid in done.stdout
    assert os.listdir(tmp_path) == ["figures.json"], "something was left behind"


def test_a_seeder_that_gives_paid_pieces_away_fails_the_demo(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(OPEN_GATE)
    done, figures = run_demo(tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert figures["unpaid_bytes_leaked"] > 80 * 256 * 1024
    assert f"unpaid bytes leaked: {figures['unpaid_bytes_leaked']} " in done.stderr
    (left,) = tmp_path.glob("bct-demo-*")
    assert str(left) in done.stderr
    assert (left / "seeder.log").stat().st_size > 0


@pytest.mark.long
@pytest.mark.parametrize("keep", [True, False])
def test_ctrl_c_ends_everything(tmp_path: Path, keep: bool) -> None:
    """In the middle of it, and when it is over and everything was kept up."""
    demo = subprocess.Popen(
        [*DEMO, *(["--keep"] if keep else [])],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout
    for line in demo.stdout:
        if ("still up" if keep else "seeded by") in line:
            break
    running = [process for process in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in _read(process)]
    assert len(running) >= 4, "a BSV node and three parties"
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60) == 130
    assert not [process for process in running if str(tmp_path).encode() in _read(process)]
    assert os.listdir(tmp_path) == []


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


# -- the witness of the chain -----------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_check_chain_recomputes_a_settlement_and_finds_a_wrong_share(
    tmp_path: Path, chain: ChainNode, miner: RegtestMiner, node: RegtestNode
) -> None:
    async with running_node(tmp_path / "seeder", chain) as seeder, running_node(tmp_path / "viewer", chain) as viewer:
        await fund(viewer, miner)
        link, _ = await publish(seeder, tmp_path / "seeder", 64)
        since = await miner.height()
        play = await viewer.viewer.play(link, None)
        await watch(play)
        await viewer.viewer.close(play)
        (earning,) = seeder.till.earnings.values()
        creator, payout = seeder.creator_key().hash, seeder.payout
    await miner.mine()
    said = {
        "rpc": node.url,
        "cookie": node.cookie_file,
        "funding": txid_hex(earning.outpoint.txid),
        "settlement": txid_hex(Tx.parse(earning.settlement).txid),
        "creator": address.encode(creator, Network.REGTEST),
        "seeder": address.encode(payout, Network.REGTEST),
        "share": 6000,
        "price": 1,
        "pieces": 62,
        "since": since,
    }
    code, found = check_chain(said)
    assert (code, found["wrong"]) == (0, [])
    assert (found["creator_satoshi"], found["seeder_satoshi"], found["satoshi_paid"]) == (37, 25, 62)
    assert found["capacity_satoshi"] == 62 + found["payer_change_satoshi"] + found["settlement_fee_satoshi"]
    assert found["onchain_txs"] == 2
    height = await miner.height()
    assert [check_chain(said | {"quiet": blocks})[1]["quiet_txs"] for blocks in (f"{since}:{height}", "0:0")] == [2, 0]
    for lie, word in (
        ({"share": 5000}, "creator"),
        ({"pieces": 63}, "seeder"),
        ({"seeder": address.encode(PubKeyHash(bytes(20)), Network.REGTEST)}, "seeder"),
        ({"since": since - 1}, "no other"),
        ({"funding": said["settlement"]}, "spends the funding"),
    ):
        code, found = check_chain(said | lie)
        assert code == 1
        assert any(word in sentence for sentence in found["wrong"]), lie


def check_chain(said: Mapping[str, object]) -> tuple[int, dict[str, Any]]:
    words = [f"--{name}={value}" for name, value in said.items()]
    done = subprocess.run(
        [sys.executable, "-I", str(ROOT / "tools/check_chain.py"), *words], capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout)


def test_the_witnesses_know_nothing_of_bct() -> None:
    for name in ("check_chain", "watch_wire", "plain_client"):
        assert "import bct" not in (source := (ROOT / f"tools/{name}.py").read_text())
        assert "from bct" not in source


# -- the witness of the wire ------------------------------------------------------------------------------------------


class Talk:
    """Viewer and seeder through the witness, byte by byte. Pieces are 100 bytes, the first two of them free."""

    def __init__(self) -> None:
        self.count = Count(free=2, piece=100)
        call = Call(self.count)
        self._viewer, self._seeder = Frames(call.from_viewer), Frames(call.from_seeder)
        for side in (self._viewer, self._seeder):
            side.feed(bytes(68))
        self._say(self._seeder, b"\x14\x00d1:md7:bct_payi7eee")

    def pays(self, body: int = 74) -> None:
        self._say(self._viewer, b"\x14\x07\x09" + bytes(body - 1))

    def sends(self, piece: int, size: int) -> None:
        self._say(self._seeder, b"\x07" + piece.to_bytes(4) + bytes(4) + bytes(size))

    @staticmethod
    def _say(side: Frames, message: bytes) -> None:
        for byte in len(message).to_bytes(4) + message:
            side.feed(bytes((byte,)))


def test_payments_and_pieces_are_counted_as_they_pass() -> None:
    talk = Talk()
    talk.sends(1, 100)
    talk.pays()
    talk.sends(2, 50)
    talk.sends(2, 50)
    talk.pays()
    talk.sends(5, 60)
    count = talk.count
    assert (count.payments, count.sizes, count.paid_bytes, count.unpaid_bytes) == (2, {80}, 160, 0)


def test_a_byte_ahead_of_its_payment_is_seen_even_when_the_payment_follows() -> None:
    talk = Talk()
    talk.pays()
    talk.sends(2, 100)
    talk.sends(3, 1)
    talk.pays()
    talk.sends(3, 99)
    assert talk.count.unpaid_bytes == 1


# -- the judge --------------------------------------------------------------------------------------------------------

CHAIN = {
    "satoshi_paid": 84,
    "creator_satoshi": 50,
    "seeder_satoshi": 34,
    "payer_change_satoshi": 6,
    "capacity_satoshi": 120,
    "funding_fee_satoshi": 42,
    "settlement_fee_satoshi": 30,
    "onchain_fee_satoshi": 72,
    "onchain_txs": 2,
    "wrong": [],
}
CHANNEL = {"outpoint": "aa:0", "txid": "bb", "capacity": 120, "paid": 84, "change": 6, "fee": 30}
ENCORE = Encore((12, 11), (12, 11), {"quiet_txs": 0, "onchain_txs": 2, "wrong": []})
SEEN = Seen(
    published={"pieces": 102, "paid_pieces": 84},
    ended={"bought": 84, "spent": 84},
    earned=CHANNEL,
    spent=CHANNEL,
    wallets={"creator": 50, "seeder": 34, "viewer": 10_000 - 120 - 42 + 6},
    chain=CHAIN,
    wire={"payments": 84, "payment_bytes": [80], "paid_bytes": 84 << 18, "unpaid_bytes": 0},
    plain={"free_pieces": 18, "leaked_bytes": 0, "messages": 600},
    sha256=("cc", "cc"),
    frames=(1500, 1500),
    seek_frames=(100, 100),
    encore=ENCORE,
    piece_length=1 << 18,
    topped_up=10_000,
    first_byte_ms=50,
    elapsed_s=20.0,
)


def test_nothing_is_wrong_with_a_demo_as_it_should_be() -> None:
    verdict = judge(SEEN)
    assert verdict.wrong == []
    assert verdict.figures.chain_matches_ledger


@pytest.mark.parametrize(
    ("field", "lie", "words"),
    [
        ("published", {"pieces": 79, "paid_pieces": 61}, "only 61 pieces"),
        ("ended", {"bought": 83}, "the viewer says 83"),
        ("wire", {"payments": 85}, "85 payments passed for 84"),
        ("wire", {"payment_bytes": [80, 81]}, "a payment is 81 bytes"),
        ("wire", {"unpaid_bytes": 1}, "1 bytes of 22020096 passed before"),
        ("chain", {"wrong": ["not so: a sentence"]}, "not so: a sentence"),
        ("earned", {"paid": 85}, "the seeder's ledger has earned 85, and the chain says 84"),
        ("spent", {"paid": 83}, "the viewer's ledger has paid 83"),
        ("spent", {"change": 7}, "gave back 7"),
        ("wallets", {"creator": 49}, "the creator's wallet holds 49"),
        ("wallets", {"viewer": 9_843}, "the viewer's wallet holds 9843"),
        ("chain", {"capacity_satoshi": 121}, "121 sat were locked, and 120"),
        ("chain", {"onchain_fee_satoshi": 76}, "miners got 76 sat"),
        ("plain", {"free_pieces": 17}, "17 of 18 free pieces"),
        ("plain", {"leaked_bytes": 5}, "unpaid bytes leaked: 5"),
        ("plain", {"messages": 345_000}, "345000 messages"),
    ],
)
def test_each_claim_can_fail(field: str, lie: Mapping[str, object], words: str) -> None:
    wrong = judge(replace(SEEN, **{field: getattr(SEEN, field) | lie})).wrong
    assert any(words in sentence for sentence in wrong), wrong


@pytest.mark.parametrize(
    ("field", "lie", "words"),
    [
        ("sha256", ("cc", "dd"), "other bytes"),
        ("frames", (1500, 1499), "1499 pictures were decoded of 1500"),
        ("seek_frames", (100, 0), "after a jump 0 pictures"),
        ("encore", replace(ENCORE, chain={"quiet_txs": 2, "wrong": []}), "put 2 transactions on the chain"),
        ("encore", replace(ENCORE, bought=(12, 10)), "(12, 10) pieces were bought of (12, 11)"),
        (
            "encore",
            replace(ENCORE, chain={"quiet_txs": 0, "wrong": ["not so: one"]}),
            "over one payment channel: not so: one",
        ),
    ],
)
def test_each_comparison_can_fail(field: str, lie: Any, words: str) -> None:
    assert any(words in sentence for sentence in judge(replace(SEEN, **{field: lie})).wrong)
