"""A document that kills its parser, in a batch with others, over HTTP."""

import pytest

from tests.support.hostile_documents import MIB, xlsx_bomb
from tests.support.running_stack import RunningStack, Visitor, notes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CODES = {"parser_timeout", "parser_out_of_memory"}


async def test_a_killer_is_quarantined_and_can_be_retried(stack: RunningStack, visitor: Visitor):
    """Its neighbours are done; it says what it did and where its bytes lie, and a retry by its code runs it again."""
    bomb = ("bomb.xlsx", xlsx_bomb(500 * MIB))
    batch_id = await visitor.submit([*notes(12, "beside-a-bomb"), bomb], options={"timeout_seconds": 1})
    batch = await visitor.ended(batch_id)
    assert (batch["counts"]["done"], batch["counts"]["failed"]) == (12, 1)

    [killer] = await visitor.documents(batch_id, status="failed")
    code, facts = killer["error"]["code"], killer["error"]["facts"]
    assert code in CODES
    assert (killer["error"]["stage"], facts["quarantined"]) == ("parsing", True)
    assert facts["kills"] >= 1
    assert facts["peak_memory_bytes"] > MIB
    assert killer["raw_key"].startswith(("raw/", "uploads/"))
    [line] = [line for line in await visitor.report(batch_id) if line["error"]]
    assert (line["error"]["facts"]["quarantined"], line["raw_key"]) == (True, killer["raw_key"])

    answer = await visitor.post(f"/v1/batches/{batch_id}/retry", {"codes": [code]})
    assert answer["id"] == batch_id
    again = await visitor.until(batch_id, lambda b: b["retry_round"] == 1 and b["ended_at"] is not None, seconds=120)
    assert (again["counts"]["done"], again["counts"]["failed"]) == (12, 1)
    [killer] = await visitor.documents(batch_id, status="failed")
    assert killer["error"]["facts"]["quarantined"] is True
