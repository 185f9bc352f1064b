"""At most one key follows a key, and a key knows the request that made it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

FORGET_FORKS = """
UPDATE api_keys SET rotated_from = NULL WHERE EXISTS (
    SELECT 1 FROM api_keys AS elder WHERE elder.rotated_from = api_keys.rotated_from AND (
        elder.created_at < api_keys.created_at
        OR (elder.created_at = api_keys.created_at AND elder.key_id < api_keys.key_id)))
"""
"""Keys beyond the first that follow the same one stay keys, as ones that follow none."""


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("fingerprint", sa.Text()))
    op.execute(FORGET_FORKS)
    op.create_index("uq_api_keys_rotated_from", "api_keys", ["rotated_from"], unique=True)
