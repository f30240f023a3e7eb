"""Receipts that both sides of a payment channel have signed, or one of them."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("""
CREATE TABLE receipts (
    outpoint BLOB NOT NULL CHECK (length(outpoint) = 36),
    epoch INTEGER NOT NULL CHECK (epoch BETWEEN 1 AND 4294967295),
    receipt BLOB NOT NULL,
    context BLOB NOT NULL,
    terms BLOB NOT NULL,
    countersignature BLOB NOT NULL CHECK (length(countersignature) IN (0, 64)),
    PRIMARY KEY (outpoint, epoch)
) STRICT""")


def downgrade() -> None:
    op.execute("DROP TABLE receipts")
