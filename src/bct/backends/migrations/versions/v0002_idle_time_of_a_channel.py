"""The idle time that both sides of a channel agreed on. Older channels were settled after 15 minutes, and still are."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE payee_channels ADD COLUMN idle INTEGER DEFAULT 900 NOT NULL CHECK (idle BETWEEN 60 AND 86400)"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE payee_channels DROP COLUMN idle")
