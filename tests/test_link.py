"""Links as people paste them, whole or broken."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bct.bitcoin.keys import PrivateKey
from bct.errors import ConfigError
from bct.title.link import MAX_LENGTH, Peer, TitleLink, TorrentLink, page, parse
from bct.units import Infohash

KEY = PrivateKey(bytes(31) + b"\x01").public
HASH = Infohash(bytes.fromhex("d2474e86c95b19b8bcfdb92bc12c9d44667cfa36"))
PLAIN = f"magnet:?xt=urn:btih:{HASH.hex()}&x.bct={KEY.hex()}"


def test_a_link_with_everything_is_read() -> None:
    link = parse(
        f"magnet:?xt=urn:btih:{HASH.hex()}&dn=Big+Buck%20Bunny&x.pe=127.0.0.1:6881&x.pe=[::1]:6882&x.pe=seed.example:1"
        f"&tr=http%3A%2F%2Ftracker.example%3A6969%2Fannounce&tr=udp://t.example:80&x.bct={KEY.hex()}"
    )
    assert link == TorrentLink(
        infohash=HASH,
        creator=KEY,
        name="Big Buck Bunny",
        peers=(Peer("127.0.0.1", 6881), Peer("::1", 6882), Peer("seed.example", 1)),
        trackers=("http://tracker.example:6969/announce", "udp://t.example:80"),
    )


def test_a_link_is_printed_as_it_is_passed_on() -> None:
    link = TorrentLink(HASH, KEY, "A & B=C", (Peer("::1", 6881), Peer("10.0.0.1", 80)), ("http://t.example/a?b=c&d",))
    assert str(link) == (
        f"magnet:?xt=urn:btih:{HASH.hex()}&dn=A%20%26%20B%3DC&x.pe=[::1]:6881&x.pe=10.0.0.1:80"
        f"&tr=http%3A%2F%2Ft.example%2Fa%3Fb%3Dc%26d&x.bct={KEY.hex()}"
    )
    assert parse(str(link)) == link


def test_base32_capitals_and_blanks_around_do_not_matter() -> None:
    in_base32 = base64.b32encode(HASH).decode()
    for text in (
        PLAIN.replace(HASH.hex(), in_base32),
        PLAIN.replace(HASH.hex(), in_base32.lower()),
        PLAIN.replace(HASH.hex(), HASH.hex().upper()),
        PLAIN.replace(KEY.hex(), KEY.hex().upper()),
        PLAIN.replace("magnet", "MAGNET"),
        f"  {PLAIN}\n",
    ):
        assert parse(text) == TorrentLink(HASH, KEY)


def test_a_title_link() -> None:
    link = TitleLink(KEY, "big-buck-bunny")
    assert str(link) == f"bct:{KEY.hex()}/big-buck-bunny"
    assert parse(str(link)) == link


def test_a_page_carries_either_where_its_server_does_not_see_it() -> None:
    for link in (TorrentLink(HASH, KEY, "#1 & only"), TitleLink(KEY, "one")):
        address = page("https://film.example/watch", link)
        assert parse(address) == link
        assert address.split("#")[0] == "https://film.example/watch"


def test_an_ordinary_torrents_link_names_no_creator() -> None:
    link = parse(PLAIN.split("&")[0])
    assert link == TorrentLink(HASH)
    assert str(link) == PLAIN.split("&")[0]


def test_what_other_clients_put_into_magnets_is_overlooked() -> None:
    assert parse(
        PLAIN + "&xl=1000&ws=http://w.example/&xt=urn:btmh:1220ff&x.pe=1.2.3.4:5&x.pe=1.2.3.4:5"
    ) == TorrentLink(HASH, KEY, peers=(Peer("1.2.3.4", 5),))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no film"),
        ("hello", "names no film"),
        ("https://film.example/watch", "names no film"),
        ("magnet:", "0 infohashes"),
        (PLAIN.replace(HASH.hex(), HASH.hex()[:-1]), "0 infohashes"),
        (PLAIN.replace(HASH.hex(), HASH.hex()[:-1] + "g"), "0 infohashes"),
        (PLAIN + "&xt=urn:btih:" + "0" * 40, "2 infohashes"),
        (PLAIN + "&x.bct=" + KEY.hex(), "2 creator keys"),
        (PLAIN.replace(KEY.hex(), "02" + "00" * 32), "no creator's key"),  # no point on the curve
        (PLAIN.replace(KEY.hex(), KEY.hex()[2:]), "no creator's key"),
        (PLAIN + "&x.pe=1.2.3.4", "no peer"),
        (PLAIN + "&x.pe=1.2.3.4:0", "no peer"),
        (PLAIN + "&x.pe=1.2.3.4:65536", "no peer"),
        (PLAIN + "&x.pe=1.2.3.4:٣", "no peer"),
        (PLAIN + "&x.pe=::1:80", "no peer"),
        (PLAIN + "&x.pe=[::1%25lo]:80", "no IPv6 address"),
        (PLAIN + "&x.pe=[1.2.3.4]:80", "no IPv6 address"),
        (PLAIN + "&x.pe=a/b:80", "no peer"),
        (PLAIN + "&x.pe=-rm:80", "no peer"),
        (PLAIN + "&tr=file:///etc/passwd", "no tracker"),
        (PLAIN + "&tr=http://user:secret@t.example/", "no tracker"),
        (PLAIN + "&tr=http://[::1/", "no tracker"),
        (PLAIN + "&tr=http://t.example:99999/", "no tracker"),
        (PLAIN + "&tr=http://t.example/%0d%0aHost:x", "no tracker"),
        (PLAIN + "&dn=a%00b", "name (dn)"),
        (PLAIN + "&dn=a%1b[31m", "name (dn)"),
        (PLAIN + "&dn=" + "x" * 256, "name (dn)"),
        (PLAIN + "&dn=%ff", "UTF-8"),
        (PLAIN + "&a" * 200, "told apart"),
        (PLAIN + "".join(f"&x.pe=1.2.3.4:{port}" for port in range(1, 34)), "33 x.pe"),
        (PLAIN + "&dn=" + "x" * MAX_LENGTH, "characters"),
        (f"bct:{KEY.hex()}", "no title id"),
        (f"bct:{KEY.hex()}/../../etc", "no title id"),
        (f"bct:{KEY.hex()}/{'x' * 65}", "no title id"),
        (f"bct:{KEY.hex()[:-2]}/one", "no creator's key"),
    ],
)
def test_a_broken_link_is_refused_saying_what_is_wrong_and_what_a_link_looks_like(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert says in str(caught.value)
    assert "A link looks like magnet:?xt=urn:btih:" in str(caught.value)
    assert len(str(caught.value)) < 400


hosts = st.sampled_from(["a.example", "127.0.0.1", "2001:db8::1", "x"])
names = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=40).filter(str.isprintable)
links = st.builds(
    TorrentLink,
    infohash=st.binary(min_size=20, max_size=20).map(Infohash),
    creator=st.none() | st.integers(1, 99).map(lambda n: PrivateKey(n.to_bytes(32)).public),
    name=names,
    peers=st.lists(st.builds(Peer, hosts, st.integers(1, 65535)), max_size=5, unique=True).map(tuple),
    trackers=st.lists(st.sampled_from(["udp://t.example:1", "wss://t.example/a?b=1&c=+"]), unique=True).map(tuple),
)


@settings(max_examples=100)
@given(links)
def test_any_link_comes_back_as_it_was_printed(link: TorrentLink) -> None:
    assert parse(str(link)) == link
    assert parse(page("http://localhost:8404/watch", link)) == link


@settings(max_examples=300)
@given(st.text(max_size=80) | st.text(max_size=60).map(lambda tail: PLAIN + "&tr=" + tail))
def test_whatever_the_text_the_only_error_is_a_config_error(text: str) -> None:
    try:
        link = parse(text)
    except ConfigError:
        return
    assert parse(str(link)) == link
