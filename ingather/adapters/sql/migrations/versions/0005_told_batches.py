"""Through which door a batch came, and whether its end was told to those who listen there."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

CONTRACT_OF_THE_SPEC = {
    "sqlite": "UPDATE batches SET contract = COALESCE(json_extract(spec, '$.contract'), 'v1')",
    "postgresql": "UPDATE batches SET contract = COALESCE(spec ->> 'contract', 'v1')",
}


def upgrade() -> None:
    op.add_column("batches", sa.Column("contract", sa.Text(), nullable=False, server_default="v1"))
    op.add_column("batches", sa.Column("is_told", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute(CONTRACT_OF_THE_SPEC[op.get_bind().dialect.name])
    op.create_index("ix_batches_contract_is_told", "batches", ["contract", "is_told"])
