"""Which documents run next: a plan over a ledger."""

from ingather.domain.ledger import Ledger
from ingather.models.document import DocumentStatus
from workflows.packs import LARGE_AT_ONCE, PackPlan, large_at_once


def begun(plan: PackPlan, ledger: Ledger, *, others_first: bool = True) -> list[list[int]]:
    """What is begun one after the other, until nothing is pending."""
    order = []
    while positions := plan.next(ledger, others_first=others_first):
        for position in positions:
            ledger.move(position, DocumentStatus.IN_FLIGHT)
        order.append(positions)
    return order


def test_what_a_pack_sent_back_is_begun_after_the_others():
    """Each by itself, in their order."""
    plan = PackPlan(range(8), limit=4)
    plan.send_back(1, kills=1)
    plan.send_back(0)
    assert begun(plan, Ledger(8)) == [[2, 3, 4, 5], [6, 7], [0], [1]]
    assert (plan.kills(0), plan.kills(1)) == (0, 1)


def test_batches_of_before_keep_their_order():
    """What was sent back began at once, and does so in their histories."""
    plan = PackPlan(range(8), limit=4)
    plan.send_back(1)
    assert begun(plan, Ledger(8), others_first=False) == [[0, 2, 3, 4], [1], [5, 6, 7]]


def test_what_a_person_asked_for_has_its_turn():
    """It was sent back, and forgiven since."""
    plan = PackPlan(range(8), limit=4)
    plan.send_back(1, kills=1)
    plan.forgive(1)
    assert begun(plan, Ledger(8)) == [[0, 2, 3, 4], [1], [5, 6, 7]]
    assert (plan.sent_back, plan.alone, plan.kills(1)) == ([], [1], 0)


def test_a_plan_goes_on_from_what_another_run_noted():
    """Who runs alone, who waits for the others, and what they killed."""
    before = PackPlan(range(8), limit=4)
    before.send_back(1, kills=1)
    before.run_alone(2)
    after = PackPlan(range(8), limit=4)
    for position in before.alone:
        after.run_alone(position, kills=before.kills(position))
    for position in before.sent_back:
        after.send_back(position)
    assert (after.sent_back, after.alone, after.all_kills) == ([1], [1, 2], {1: 1})
    assert begun(after, Ledger(8)) == [[0, 3, 4, 5], [2], [6, 7], [1]]


def test_what_packs_sent_back_is_left_where_somebody_else_runs_it():
    """The plan is through when all others have been begun and none of them is pending again."""
    plan, ledger = PackPlan(range(6), limit=4, leaves_sent_back=True), Ledger(6)
    assert begun(plan, ledger) == [[0, 1, 2, 3], [4, 5]]
    for position in (1, 4):
        plan.send_back(position)
        ledger.move(position, DocumentStatus.PENDING)
    assert plan.is_through(ledger)
    assert begun(plan, ledger) == []

    ledger.move(0, DocumentStatus.PENDING)
    plan.forgive(0)
    assert not plan.is_through(ledger)
    assert begun(plan, ledger) == [[0]]
    assert [ledger[position] for position in (1, 4)] == [DocumentStatus.PENDING] * 2


def test_large_documents_begin_before_their_turn():
    """Each by itself, then the others in their order."""
    plan = PackPlan({0, 1, 2, 4, 5}, limit=4, large=[3, 6])
    assert begun(plan, Ledger(7)) == [[3], [6], [0, 1, 2, 4], [5]]


def test_a_few_large_documents_are_ahead_at_a_time():
    """The next one when one of them has ended; meanwhile it is everybody's turn, theirs too."""
    plan, ledger = PackPlan(large=range(2, 20)), Ledger(20)
    ahead = list(range(2, 2 + LARGE_AT_ONCE))
    order = []
    for _ in range(LARGE_AT_ONCE + 3):
        (position,) = plan.next(ledger, others_first=True)
        ledger.move(position, DocumentStatus.IN_FLIGHT)
        order.append(position)
    assert order == [*ahead, 0, 1, ahead[-1] + 1]
    ledger.move(ahead[0], DocumentStatus.DONE)
    assert plan.next(ledger, others_first=True) == [ahead[-1] + 2]


def test_half_of_the_activities_are_there_for_the_others():
    """Where there is one at a time, everybody has their turn."""
    assert [large_at_once(window) for window in (1, 2, 3, 4, 12, 48)] == [0, 1, 1, 2, LARGE_AT_ONCE, LARGE_AT_ONCE]
    assert begun(PackPlan(large=[1], ahead=0), Ledger(2)) == [[0], [1]]


def test_a_large_document_that_is_pending_again_has_its_turn():
    """Once it was ahead in this run, it waits no longer than others do."""
    plan, ledger = PackPlan(large=[2]), Ledger(3)
    assert begun(plan, ledger) == [[2], [0], [1]]
    ledger.move(1, DocumentStatus.PENDING)
    ledger.move(2, DocumentStatus.PENDING)
    assert begun(plan, ledger) == [[1], [2]]
