"""The two questions a running batch is asked. A closed one is never asked: it would replay its whole history."""

import asyncio
from datetime import timedelta
from typing import TypeVar

from temporalio.client import Client, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.common import QueryRejectCondition
from temporalio.service import RPCError, RPCStatusCode

from ingather.models.batch import BatchProgress
from ingather.models.errors import EngineUnavailableError
from ingather.models.identity import workflow_id_for
from ingather.models.messages import OutcomesPage

DEADLINE = timedelta(seconds=2)
"""Without one a query waits half a minute for a worker that is not there."""

Answer = TypeVar("Answer")


class BatchNotOpenError(Exception):
    """The workflow is closed, or not there: ask the catalog."""


class BatchQueries:
    """Raises ``BatchNotOpenError``, and ``EngineUnavailableError`` when no answer came in time.

    ``count`` is the number of queries sent so far.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.count = 0

    async def progress(self, batch_id: str) -> BatchProgress:
        """An exact snapshot of a running batch."""
        return await self._ask(batch_id, "progress", [], BatchProgress)

    async def outcomes(self, batch_id: str, after: int) -> OutcomesPage:
        """What happened from journal position ``after`` on."""
        return await self._ask(batch_id, "outcomes", [after], OutcomesPage)

    async def _ask(self, batch_id: str, name: str, args: list[int], answer: type[Answer]) -> Answer:
        self.count += 1
        handle = self._client.get_workflow_handle(workflow_id_for(batch_id))
        try:
            # The SDK retries refused calls on its own clock, so the deadline is drawn around all of them.
            async with asyncio.timeout(DEADLINE.total_seconds()):
                found: Answer = await handle.query(
                    name,
                    args=args,
                    result_type=answer,
                    reject_condition=QueryRejectCondition.NOT_OPEN,
                    rpc_timeout=DEADLINE,
                )
        except WorkflowQueryRejectedError as error:
            raise BatchNotOpenError(batch_id) from error
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise BatchNotOpenError(batch_id) from error
            raise EngineUnavailableError("The batch did not answer in time.", rpc_status=error.status.name) from error
        except (WorkflowQueryFailedError, TimeoutError) as error:
            raise EngineUnavailableError("The batch did not answer in time.") from error
        return found
