"""`bct publish`, `seed add`, `titles`: from a file to a link that others can watch.

The file is read here, in the owner's own process; the node only hears the id of what was put into its incoming folder.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bct.cli.verb import Session, verb
from bct.errors import ConfigError, StoreError, WalletLockedError

if TYPE_CHECKING:
    from bct.cli.home import Home
    from bct.media.ingest import Ingested, Progress

FREE_SECONDS = 10.0


def add_to(app: typer.Typer) -> None:
    verb(app, "publish")(publish)
    verb(app, "titles")(titles)
    seeds = typer.Typer(help="Seed titles of other creators, and be paid for each piece.", no_args_is_help=True)
    verb(seeds, "add")(seed)
    app.add_typer(seeds, name="seed")


def publish(
    session: Session,
    file: Annotated[Path, typer.Argument(help="The film: MP4, MKV, WebM and others.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="The title.", show_default="the file's name")] = "",
    price: Annotated[int, typer.Option("--price", min=0, help="Satoshis a piece; 0: a free title.")] = 1,
    share: Annotated[int, typer.Option("--share", min=1, max=10_000, help="Your part, in basis points.")] = 6000,
    payee: Annotated[
        list[str] | None,
        typer.Option("--payee", help="HASH:BPS, a creator's key hash and part; again for each. Instead of --share."),
    ] = None,
    free_seconds: Annotated[
        float, typer.Option("--free-seconds", min=0, help="How much of the beginning costs nothing.")
    ] = FREE_SECONDS,
) -> None:
    """Prepare a film, sign your terms for it, seed it, and print the link to pass on.

    Example: `bct publish film.mp4 --price 2 --share 7000`
    """
    payees = [_payee(text) for text in payee or []]
    node = session.node()
    if node.get("/api/wallet")["locked"]:
        raise WalletLockedError("the wallet is locked: start the node with its passphrase, for terms are signed")
    with _incoming(session.home) as incoming:
        ingested = asyncio.run(_ingest(file, session.home.incoming / incoming, session))
        published = node.post(
            "/api/titles",
            {
                "incoming": incoming,
                "torrent": _torrent(name or file.stem, ingested),
                "name": name or file.stem,
                "film": _film(ingested),
                "price": price,
                "share": share,
                "payees": payees,
                "free": _free(ingested, free_seconds),
            },
        )
    title = published["title"]
    torrent = session.home.torrents / f"{title['infohash']}.torrent"
    torrent.write_bytes(base64.b64decode(published["torrent"]))
    found = title | {"torrent": str(torrent), "fees": published["fees"]}
    session.result(found, lambda: _show(found))


def _payee(text: str) -> tuple[str, int]:
    pubkey_hash, _, share = text.partition(":")
    if not share.isdecimal():
        raise ConfigError(f"--payee {text}: write it as HASH:BPS, 40 hex digits and basis points")
    return pubkey_hash.lower(), int(share)


async def _ingest(file: Path, target: Path, session: Session) -> Ingested:
    import imageio_ffmpeg

    from bct.backends.ingest import Ingest
    from bct.backends.transcoder import Transcoder

    ingest = Ingest(Transcoder(imageio_ffmpeg.get_ffmpeg_exe()))
    with _progress(session) as progress:
        return await ingest.ingest(str(file), str(target), progress)


@contextmanager
def _progress(session: Session) -> Iterator[Progress]:
    """A bar a stage, for people only."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskID
    from rich.progress import Progress as Bars

    from bct.media.ingest import Stage

    bars = Bars("{task.description:<8}", BarColumn(), "{task.percentage:>3.0f} %", console=Console(stderr=True))
    shown: dict[Stage, TaskID] = {}

    def tell(stage: Stage, done: float) -> None:
        if stage not in shown:
            shown[stage] = bars.add_task(stage.value, total=1.0)
        bars.update(shown[stage], completed=done)

    if session.json:
        yield lambda stage, done: None
        return
    with bars:
        yield tell


@contextmanager
def _incoming(home: Home) -> Iterator[str]:
    """The id of a file in the node's incoming folder. The node takes it from there, so it is removed in the end."""
    incoming = secrets.token_hex(16)
    try:
        yield incoming
    finally:
        (home.incoming / incoming).unlink(missing_ok=True)


def _torrent(name: str, ingested: Ingested) -> str:
    from bct.torrent.metainfo import Metainfo, build_info

    safe = "".join(c if c.isprintable() and c not in "/\\:" else "-" for c in name)
    short = safe.encode()[:200].decode(errors="ignore")
    info = build_info(f"{short}.mp4", ingested.length, ingested.piece_length, ingested.piece_hashes)
    return base64.b64encode(Metainfo.from_info(info).to_file()).decode()


def _film(ingested: Ingested) -> dict[str, Any]:
    from bct.title.manifest import pack_fragments

    movie = ingested.movie
    rendition = {
        "mime": movie.mime,
        "width": movie.leading.width,
        "height": movie.leading.height,
        "bitrate": ingested.bitrate,
        "init": movie.init_size,
        "fragments": pack_fragments(movie.fragments, movie.init_size),
    }
    return {"duration": movie.duration_ms, "rendition": rendition}


def _free(ingested: Ingested, seconds: float) -> int:
    """Pieces from the first on."""
    from bct.title.ranges import free_start

    return free_start(seconds, ingested.movie.fragments, ingested.piece_length).count if seconds else 0


def _show(found: dict[str, Any]) -> None:
    print(f"{found['name']} is published: {found['pieces']} pieces, {found['paid_pieces']} of them for sale.\n")
    if found["price"]:
        creators = " and ".join(f"{amount} sat" for amount in found["creators"])
        print(f"  a view      {found['view']} sat, {found['price']} a piece")
        print(f"  creators    {creators}")
        print(f"  seeders     {found['seeder']} sat")
        print(f"  miners      about {found['fees']} sat more, paid by the viewer\n")
    else:
        print("  It is free: nobody pays for it, and nobody needs a wallet to watch it.\n")
    print(f"  link        {found['link']}")
    print(f"  .torrent    {found['torrent']}")


def titles(session: Session) -> None:
    """The titles that are on this node: published, seeded or watched."""
    found = session.node().get("/api/titles")
    session.result({"titles": found}, lambda: _show_titles(found))


def _show_titles(found: list[dict[str, Any]]) -> None:
    if not found:
        print("No titles yet: bct publish FILE, or bct play LINK.")
    for title in found:
        sold = f"{title['view']} sat a view" if title["price"] else "free"
        print(f"{title['name']} ({title['holding']}, {title['here']} of {title['pieces']} pieces, {sold})")
        print(f"  {title['link']}")


def seed(
    session: Session,
    link: Annotated[str, typer.Argument(help="The title's link.", show_default=False)],
    source: Annotated[Path, typer.Option("--from", help="A whole copy of its file.", show_default=False)],
) -> None:
    """Seed a title from a file you have: pieces are sold under its creator's terms.

    Example: `bct seed add "magnet:?xt=urn:btih:…" --from film.mp4`
    """
    node = session.node()
    with _incoming(session.home) as incoming:
        try:
            # A copy: the node serves straight from the file, which nobody may change under its hands.
            shutil.copyfile(source, session.home.incoming / incoming)
        except OSError as error:
            raise StoreError(f"{source} cannot be copied to {session.home.incoming}: {error.strerror}") from None
        title = node.post("/api/seeds", {"link": link, "incoming": incoming})
    session.result(title, f"{title['name']} is being seeded: {title['pieces']} pieces at {title['price']} sat.")
