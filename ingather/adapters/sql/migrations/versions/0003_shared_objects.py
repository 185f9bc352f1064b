"""Where in a shared object a document's bytes and its artifact lie."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("documents", sa.Column("raw_offset", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("documents", sa.Column("artifact_key", sa.Text()))
    op.add_column("documents", sa.Column("artifact_offset", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("documents", sa.Column("artifact_bytes", sa.BigInteger()))
