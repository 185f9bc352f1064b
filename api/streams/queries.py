"""The two questions a running batch is asked. A closed one is never asked: it would replay its whole history."""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from temporalio.client import Client, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.common import QueryRejectCondition
from temporalio.service import RPCError, RPCStatusCode

from api.engine_calls import READ_TIMEOUT, reached
from ingather.domain.live_progress import ChildKey, merged
from ingather.models.batch import BatchProgress
from ingather.models.errors import EngineUnavailableError
from ingather.models.identity import child_workflow_id_for, workflow_id_for
from ingather.models.messages import OutcomesPage

_PARENT_LEARNS_SECONDS = (0, 0.05, 0.1, 0.2)
"""Pauses before a parent is asked whether it knows of a child's end; under load the word takes so long."""

Answer = TypeVar("Answer", BatchProgress, OutcomesPage)


class BatchNotOpenError(Exception):
    """The workflow is closed, or not there: ask the catalog."""


@dataclass(frozen=True, slots=True)
class ProgressAnswer:
    """A running batch, its children included."""

    progress: BatchProgress
    complete: bool
    """Every child at work was heard; the documents of one that was not are counted as in flight."""


class BatchQueries:
    """Raises ``BatchNotOpenError``, and ``EngineUnavailableError`` when no answer came in time.

    ``count`` is the number of queries sent so far.
    """

    def __init__(self, client: Client, *, deadline: timedelta = READ_TIMEOUT) -> None:
        self._client = client
        self._deadline = deadline
        """Without one a query waits half a minute for a worker that is not there."""
        self.count = 0

    async def progress(self, batch_id: str) -> ProgressAnswer:
        """A snapshot of a running batch whose counts add up, whatever its children do meanwhile."""
        parent = await self._ask(workflow_id_for(batch_id), "progress", [], BatchProgress)
        asked = [ChildKey.of(child) for child in parent.children]
        heard = await _gathered({child: self._ask_child(batch_id, child) for child in asked})
        answers = {child: answer for child, answer in heard.items() if answer is not None}
        ended = heard.keys() - answers.keys()
        for pause in _PARENT_LEARNS_SECONDS:
            if ended.isdisjoint(map(ChildKey.of, parent.children)):
                break
            # Its parent knows better than the child did, or is about to: the server tells it that the child ended.
            await asyncio.sleep(pause)
            parent = await self._ask(workflow_id_for(batch_id), "progress", [], BatchProgress)
        unknown = set(asked) - answers.keys()
        return ProgressAnswer(merged(parent, answers), unknown.isdisjoint(map(ChildKey.of, parent.children)))

    async def outcomes(self, batch_id: str, after: int) -> OutcomesPage:
        """What happened to the batch itself from journal position ``after`` on."""
        return await self._ask(workflow_id_for(batch_id), "outcomes", [after], OutcomesPage)

    async def child_outcomes(self, batch_id: str, after: Mapping[ChildKey, int]) -> dict[ChildKey, OutcomesPage | None]:
        """What happened to each child's documents from a position in its own journal on.

        None for a child that is not open; one that does not answer in time is left out.
        """
        asked = {
            child: self._ask(_id(batch_id, child), "outcomes", [position], OutcomesPage)
            for child, position in after.items()
        }
        return await _gathered(asked)

    async def _ask_child(self, batch_id: str, child: ChildKey) -> BatchProgress:
        return await self._ask(_id(batch_id, child), "progress", [], BatchProgress)

    async def _ask(self, workflow_id: str, name: str, args: list[int], answer: type[Answer]) -> Answer:
        self.count += 1
        handle = self._client.get_workflow_handle(workflow_id)
        try:
            async with reached(self._deadline):
                found: Answer = await handle.query(
                    name,
                    args=args,
                    result_type=answer,
                    reject_condition=QueryRejectCondition.NOT_OPEN,
                    rpc_timeout=self._deadline,
                )
        except WorkflowQueryRejectedError as error:
            raise BatchNotOpenError(workflow_id) from error
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise BatchNotOpenError(workflow_id) from error
            raise EngineUnavailableError("The batch did not answer in time.", rpc_status=error.status.name) from error
        except WorkflowQueryFailedError as error:
            raise EngineUnavailableError("The batch did not answer in time.") from error
        return found


def _id(batch_id: str, child: ChildKey) -> str:
    return child_workflow_id_for(batch_id, child.index, child.retry_round)


async def _gathered(asked: Mapping[ChildKey, Awaitable[Answer]]) -> dict[ChildKey, Answer | None]:
    """Answers by child: None for one that is not open, nothing for one that is silent."""
    answers = await asyncio.gather(*asked.values(), return_exceptions=True)
    found: dict[ChildKey, Answer | None] = {}
    for child, answer in zip(asked, answers, strict=True):
        if isinstance(answer, BatchNotOpenError):
            found[child] = None
        elif not isinstance(answer, BaseException):
            found[child] = answer
        elif not isinstance(answer, EngineUnavailableError):
            raise answer
    return found
