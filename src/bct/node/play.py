"""One title being watched: whoever reads the local URL gets verified bytes, in order, as they arrive.

Any player works: it reads byte ranges by HTTP, several at once if it likes. What is read, and a read-ahead beyond it,
is what gets bought; nothing else is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator

from bct.errors import BctError, TemporaryError
from bct.media.playback import Playback, Timeline
from bct.node.buyer import TitleBuyer
from bct.node.swarm import Swarm
from bct.pay.budget import Budget
from bct.torrent.store import PieceStore
from bct.units import PieceIndex

READ_AHEAD = 20.0
"""Seconds of film beyond a reader's place that are wanted as well."""
GUESSED_BITRATE = 4_000_000
"""Bits per second, of a film whose index has not been seen."""
PATIENCE = 60.0
"""Seconds without a single new piece after which a reader is told to try again."""


class Play:
    """One viewing. token: what stands in its local URL."""

    def __init__(self, token: str, swarm: Swarm, buyer: TitleBuyer, budget: Budget, clock: Callable[[], float]) -> None:
        self.token = token
        self.swarm = swarm
        self.buyer = buyer
        self.budget = budget
        self.started = clock()
        self.first_byte_at: float | None = None
        self.read_at = self.started
        self._clock = clock
        self._playback: Playback | None = None
        self._learnt = False
        self._news = asyncio.Event()
        self._closed = False
        buyer.wanted = self.wanted
        buyer.playing_time = self.playing_time
        buyer.on_change = self.changed

    # -- what is wanted -----------------------------------------------------------------------------------------------

    @property
    def reading(self) -> bool:
        return self._playback is not None and self._playback.reading

    def wanted(self) -> Iterator[PieceIndex]:
        """Pieces by how soon a reader will want them."""
        geometry = self.swarm.geometry
        if geometry is None or self._playback is None:
            return
        for want in self._playback.wanted(self._clock()):
            first, last = geometry.locate(want.start)[0], geometry.locate(want.end - 1)[0]
            yield from map(PieceIndex, range(first, last + 1))

    def _readers(self, length: int) -> Playback:
        if self._playback is None:
            self._playback = Playback(Timeline.of_bitrate(GUESSED_BITRATE, length), READ_AHEAD)
        return self._playback

    def _learn(self, store: PieceStore, length: int) -> None:
        """The first piece of a film that bct published holds its index."""
        if not self._learnt and 0 in store.pieces:
            self._learnt = True
            timeline = Timeline.of_index(bytes(store.read(PieceIndex(0))), length)
            if timeline:
                self._readers(length).learn(timeline)

    def playing_time(self) -> int:
        """Seconds of film from where it is being read to its end: by its index, or by its length until that is here."""
        geometry, store = self.swarm.geometry, self.swarm.store
        if geometry is None or store is None:
            return 0
        self._learn(store, geometry.length)
        return int(self._readers(geometry.length).remaining())

    def changed(self) -> None:
        self._news.set()

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        geometry = self.swarm.geometry
        if geometry is None:
            raise TemporaryError("the title's metadata has not arrived yet")
        return geometry.length

    async def read(self, start: int, end: int) -> AsyncGenerator[memoryview]:
        """Bytes [start, end), piece by piece, each as soon as it is verified. Raises what stopped the buying."""
        geometry, store = self.swarm.geometry, self.swarm.store
        if geometry is None or store is None:
            raise TemporaryError("the title's metadata has not arrived yet")
        playback = self._readers(geometry.length)
        reader = playback.open(start, end, self._clock())
        try:
            while start < end:
                piece, begin = geometry.locate(start)
                await self._piece(store, piece)
                self._learn(store, geometry.length)
                part = store.read(piece)[begin : begin + end - start]
                self._mark()
                yield part
                start += len(part)
                playback.advance(reader, start, self._clock())
        finally:
            playback.close(reader)
            self._mark()

    def _mark(self) -> None:
        self.read_at = self._clock()
        if self.first_byte_at is None:
            self.first_byte_at = self.read_at

    async def _piece(self, store: PieceStore, piece: PieceIndex) -> None:
        """Waits until the piece is here."""
        if piece not in store.pieces or not self.buyer.busy:
            self.buyer.pump()  # else whatever arrives next does it
        while piece not in store.pieces:
            trouble: BctError | None = self.buyer.deals.trouble
            if trouble:
                raise trouble
            if self._closed:
                raise TemporaryError("this play was closed: start another one")
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), PATIENCE)
            except TimeoutError:
                missing = self.buyer.waiting_for or f"piece {piece}, which no peer sends"
                raise TemporaryError(f"nothing has come for {PATIENCE:.0f} s; what lacks is {missing}") from None

    async def close(self, seconds: float, *, keep: bool) -> None:
        """Ends its readers, settles, and forgets the peers that were needed for this play alone. seconds: how long to
        wait for seeders to settle. keep: its payment channels stay open, for another play."""
        self._closed = True
        self._news.set()
        await self.buyer.close(seconds, keep=keep)
        self.buyer.stop()
