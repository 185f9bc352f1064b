"""Between a batch and the line of its tenant: asking for a place, and seeing who still holds one."""

import asyncio
from datetime import timedelta

import structlog
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import Priority, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from activities.failures import translate_errors
from ingather.models.engine import PLACES_ASK, PLACES_WORKFLOW, WORKFLOW_QUEUE, WORKFLOW_TASK_TIMEOUT
from ingather.models.errors import CatalogUnavailableError, EngineUnavailableError
from ingather.models.identity import places_workflow_id_for, workflow_id_for
from ingather.models.messages import (
    CheckHoldersInput,
    CheckHoldersOutput,
    PlaceHolder,
    PlaceLimits,
    PlaceRequest,
    PlacesInput,
    RequestPlaceInput,
)
from ingather.ports.accounts import Accounts
from ingather.ports.catalog import Catalog

log = structlog.get_logger(__name__)

RPC_TIMEOUT = timedelta(seconds=5)
_NOTE_SECONDS = 2.0

_TENANT_ID = SearchAttributeKey.for_keyword("TenantId")


class PlaceActivities:
    """Speaks to Temporal itself.

    Args:
        client: of the namespace that the batches run in.
        limits: what a tenant may have running at a time.
        accounts: tenants, with limits of their own; without it all have the same.
        catalog: hears which batches stand in line, so that sums and lists need not ask thousands; without it nobody does.
    """

    def __init__(
        self, client: Client, limits: PlaceLimits, accounts: Accounts | None = None, catalog: Catalog | None = None
    ) -> None:
        self._catalog = catalog
        self._client = client
        self._limits = limits
        self._accounts = accounts

    @activity.defn(name="request_place")
    @translate_errors
    async def request_place(self, request: RequestPlaceInput) -> None:
        """Put a batch in its tenant's line, and bring the line to life where there is none. Safe to repeat."""
        tenant_id = request.tenant_id
        # Before the line hears of it: what it lets run may end soon.
        await self._note_queued(request.entry.batch_id)
        limits = await self._limits_of(tenant_id)
        try:
            await self._client.start_workflow(
                PLACES_WORKFLOW,
                PlacesInput(tenant_id=tenant_id),
                id=places_workflow_id_for(tenant_id),
                task_queue=WORKFLOW_QUEUE,
                start_signal=PLACES_ASK,
                start_signal_args=[PlaceRequest(entry=request.entry, limits=limits)],
                search_attributes=TypedSearchAttributes([SearchAttributePair(_TENANT_ID, tenant_id)]),
                static_summary="Which batches of a tenant run, and which wait",
                priority=Priority(priority_key=1, fairness_key=tenant_id),
                task_timeout=WORKFLOW_TASK_TIMEOUT,
                rpc_timeout=RPC_TIMEOUT,
            )
        except RPCError as error:
            raise EngineUnavailableError("The line could not be asked.", rpc_status=error.status.name) from error

    async def _note_queued(self, batch_id: str) -> None:
        """No batch stands still for a note: one that is missing is made when the batch asks for its place again."""
        if self._catalog is None:
            return
        try:
            async with asyncio.timeout(_NOTE_SECONDS):
                await self._catalog.note_queued(batch_id)
        except (TimeoutError, CatalogUnavailableError):
            log.warning("place.not_noted", batch_id=batch_id)

    @activity.defn(name="check_holders")
    @translate_errors
    async def check_holders(self, request: CheckHoldersInput) -> CheckHoldersOutput:
        """Which holders of a place are gone, and what the limits are now."""
        gone = [holder for holder in request.holders if await self._is_gone(holder)]
        for holder in gone:
            log.warning("place.holder_lost", batch_id=holder.batch_id)
        return CheckHoldersOutput(gone=tuple(gone), limits=await self._limits_of(request.tenant_id))

    async def _limits_of(self, tenant_id: str | None) -> PlaceLimits:
        """As they are set now, the tenant's own before the deployment's."""
        tenant = await self._accounts.get_tenant(tenant_id) if self._accounts and tenant_id else None
        if tenant is None:
            return self._limits
        own = {
            "max_jobs": tenant.limits.max_concurrent_jobs or self._limits.max_jobs,
            "max_bytes": tenant.limits.max_concurrent_bytes or self._limits.max_bytes,
        }
        return self._limits.model_copy(update=own)

    async def _is_gone(self, holder: PlaceHolder) -> bool:
        try:
            batch = await self._client.get_workflow_handle(workflow_id_for(holder.batch_id)).describe(
                rpc_timeout=RPC_TIMEOUT
            )
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return True
            raise EngineUnavailableError("A batch could not be described.", rpc_status=error.status.name) from error
        first_run_id = batch.raw_info.first_run_id
        return batch.status != WorkflowExecutionStatus.RUNNING or first_run_id != holder.chain_id
