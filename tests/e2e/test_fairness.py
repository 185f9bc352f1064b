"""Tenants share the workers by documents: who has little to do does not stand behind who has much."""

from datetime import datetime

import pytest

from tests.support.running_stack import Json, RunningStack, notes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MANY, FEW = 3_000, 20
AHEAD = 1_000
"""Of one tenant's own documents 1,500 and more are dispatched ahead: they would all go first."""


async def test_twenty_documents_do_not_wait_for_thousands(stack: RunningStack):
    """Handed in while another tenant's are under way, they end before even those that were dispatched earlier."""
    async with stack.visitor() as noisy, stack.visitor() as quiet:
        for visitor, name in ((noisy, "noisy"), (quiet, "quiet")):
            tenant = await visitor.post("/v1/tenants", {"name": name}, status=201)
            visitor.http.headers["X-Tenant-ID"] = tenant["id"]
        large = await noisy.submit(notes(MANY, "noisy", words=1_500))
        await noisy.until(large, lambda batch: batch["counts"]["done"] >= 100)

        small = await quiet.submit(notes(FEW, "quiet"))
        ended = await quiet.ended(small)
        after = await noisy.batch(large)
        await noisy.post(f"/v1/batches/{large}/cancel")
        await noisy.ended(large)

        assert ended["counts"]["done"] == FEW
        assert after["counts"]["pending"] > 0, "the other tenant's work must last longer than this one's"
        last = max(_ended_at(document) for document in await quiet.documents(small))
        accepted = datetime.fromisoformat(ended["created_at"])
        passed = [
            document
            for document in await noisy.documents(large, status="done")
            if accepted < _ended_at(document) < last
        ]
        assert len(passed) < AHEAD


def _ended_at(document: Json) -> datetime:
    return datetime.fromisoformat(document["ended_at"])
