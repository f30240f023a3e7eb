"""Payment channels, titles, terms seen, missteps."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_SHARED = """
    outpoint BLOB NOT NULL CHECK (length(outpoint) = 36),
    capacity INTEGER NOT NULL CHECK (capacity BETWEEN 1 AND 4294967295),
    payer_key BLOB NOT NULL CHECK (length(payer_key) = 33),
    payee_key BLOB NOT NULL CHECK (length(payee_key) = 33),
    expiry INTEGER NOT NULL CHECK (expiry BETWEEN 500000000 AND 2147483647),
    change_hash BLOB NOT NULL CHECK (length(change_hash) = 20),
    payout_hash BLOB NOT NULL CHECK (length(payout_hash) = 20),
    fee_rate INTEGER NOT NULL CHECK (fee_rate BETWEEN 1 AND 4294967295),
    max_outputs INTEGER NOT NULL CHECK (max_outputs BETWEEN 1 AND 255),
    payees BLOB NOT NULL,
    created INTEGER NOT NULL,
    state TEXT NOT NULL,
"""

_STATEMENTS = (
    f"""
CREATE TABLE payee_channels ({_SHARED}
    nonce BLOB NOT NULL CHECK (length(nonce) = 16),
    funding BLOB NOT NULL,
    settlement BLOB NOT NULL,
    PRIMARY KEY (outpoint),
    UNIQUE (nonce)
) STRICT""",
    f"""
CREATE TABLE payer_channels ({_SHARED}
    anchor BLOB NOT NULL CHECK (length(anchor) = 36),
    seeder BLOB NOT NULL CHECK (length(seeder) = 33),
    host TEXT NOT NULL,
    port INTEGER NOT NULL CHECK (port BETWEEN 0 AND 65535),
    funding BLOB NOT NULL,
    closing BLOB NOT NULL,
    PRIMARY KEY (outpoint)
) STRICT""",
    """
CREATE TABLE titles (
    infohash BLOB NOT NULL CHECK (length(infohash) = 20),
    name TEXT NOT NULL,
    holding TEXT NOT NULL,
    metainfo BLOB NOT NULL,
    created INTEGER NOT NULL,
    terms BLOB NOT NULL,
    manifest BLOB NOT NULL,
    PRIMARY KEY (infohash)
) STRICT""",
    """
CREATE TABLE terms_seen (
    infohash BLOB NOT NULL,
    creator BLOB NOT NULL CHECK (length(creator) = 33),
    sequence INTEGER NOT NULL,
    PRIMARY KEY (infohash, creator)
) STRICT""",
    """
CREATE TABLE missteps (
    id INTEGER NOT NULL,
    seeder BLOB NOT NULL CHECK (length(seeder) = 33),
    kind TEXT NOT NULL,
    time INTEGER NOT NULL,
    PRIMARY KEY (id)
) STRICT""",
    "CREATE INDEX missteps_by_seeder ON missteps (seeder)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
