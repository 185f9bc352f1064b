"""What a tenant may have running at a time, as its line is told."""

from datetime import UTC, datetime

import pytest
from temporalio.testing import ActivityEnvironment

from activities.places import PlaceActivities
from ingather.adapters.memory.accounts import InMemoryAccounts
from ingather.models.accounts import Tenant, TenantLimits
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.messages import CheckHoldersInput, PlaceLimits

ACME = "11111111-1111-7111-8111-111111111111"
DEPLOYMENT = PlaceLimits(max_jobs=4, max_bytes=1_000, check_seconds=7)


@pytest.mark.parametrize(
    ("tenant_id", "jobs", "max_bytes"),
    [
        (ACME, 2, 1_000),
        (DEFAULT_TENANT_ID, 4, 1_000),
        ("99999999-9999-7999-8999-999999999999", 4, 1_000),
        (None, 4, 1_000),
    ],
)
async def test_a_tenant_s_own_limits_come_first(tenant_id, jobs, max_bytes):
    """One by one, as they are set now; the rest is the deployment's."""
    accounts = InMemoryAccounts()
    limits = TenantLimits(max_concurrent_jobs=2)
    await accounts.add_tenant(Tenant(tenant_id=ACME, name="Acme", limits=limits, created_at=datetime.now(UTC)))
    places = PlaceActivities(None, DEPLOYMENT, accounts)  # type: ignore[arg-type]  # nobody is looked at
    request = CheckHoldersInput(tenant_id=tenant_id, holders=())
    answer = await ActivityEnvironment().run(places.check_holders, request)
    assert answer.limits == PlaceLimits(max_jobs=jobs, max_bytes=max_bytes, check_seconds=7)
