"""The client for an event loop: the same operations, awaited."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ingather.client import calls
from ingather.client.errors import ClientError
from ingather.client.following import Following, OnLost, Waiting
from ingather.client.jobs import QUIET, JobFollowing
from ingather.client.models import Batch, JobMessage, StreamEvent
from ingather.client.operations import AsyncDownloads, AsyncLists, AsyncSends
from ingather.client.server import Server

if TYPE_CHECKING:
    import httpx


class AsyncIngatherClient:
    """``IngatherClient`` for an event loop: open it with ``async with``, await what answers once, and iterate over lists,
    downloads and streams with ``async for``.

    Files are read in threads; ``sent`` is called from them.
    """

    # Submitting
    limits = AsyncSends(calls.limits)
    submit = AsyncSends(calls.submit)
    submit_documents = AsyncSends(calls.submit_documents)
    submit_lines = AsyncSends(calls.submit_lines)
    submit_sources = AsyncSends(calls.submit_sources)
    preview = AsyncSends(calls.preview)
    preview_lines = AsyncSends(calls.preview_lines)
    open_batch = AsyncSends(calls.open_batch)
    add = AsyncSends(calls.add)
    add_lines = AsyncSends(calls.add_lines)
    add_sources = AsyncSends(calls.add_sources)
    seal = AsyncSends(calls.seal)

    # Batches
    batches = AsyncLists(calls.batches)
    batch = AsyncSends(calls.batch)
    start = AsyncSends(calls.start)
    pause = AsyncSends(calls.pause)
    resume = AsyncSends(calls.resume)
    cancel = AsyncSends(calls.cancel)
    retry = AsyncSends(calls.retry)
    edit = AsyncSends(calls.edit)
    push_again = AsyncLists(calls.push_again)

    # What came out
    documents = AsyncLists(calls.documents)
    document = AsyncSends(calls.document)
    text = AsyncSends(calls.text)
    raw = AsyncDownloads(calls.raw)
    report = AsyncDownloads(calls.report)
    search = AsyncSends(calls.search)
    event_page = AsyncSends(calls.event_page)
    stream_ticket = AsyncSends(calls.stream_ticket)

    # Sources
    connections = AsyncLists(calls.connections)
    create_connection = AsyncSends(calls.create_connection)
    connection = AsyncSends(calls.connection)
    test_connection = AsyncSends(calls.test_connection)
    connection_files = AsyncLists(calls.connection_files)
    delete_connection = AsyncSends(calls.delete_connection)

    # Webhooks
    webhooks = AsyncLists(calls.webhooks)
    create_webhook = AsyncSends(calls.create_webhook)
    webhook = AsyncSends(calls.webhook)
    edit_webhook = AsyncSends(calls.edit_webhook)
    rotate_webhook = AsyncSends(calls.rotate_webhook)
    test_webhook = AsyncSends(calls.test_webhook)
    delete_webhook = AsyncSends(calls.delete_webhook)
    deliveries = AsyncLists(calls.deliveries)
    delivery = AsyncSends(calls.delivery)
    redeliver = AsyncSends(calls.redeliver)

    # Texts
    process_texts = AsyncSends(calls.process_texts)
    text_batch = AsyncSends(calls.text_batch)

    # Jobs over sources
    create_job = AsyncSends(calls.create_job)
    job = AsyncSends(calls.job)
    jobs = AsyncLists(calls.jobs)
    control_job = AsyncSends(calls.control_job)
    job_statistics = AsyncSends(calls.job_statistics)

    # Administration
    tenants = AsyncLists(calls.tenants)
    create_tenant = AsyncSends(calls.create_tenant)
    edit_tenant = AsyncSends(calls.edit_tenant)
    delete_tenant = AsyncSends(calls.delete_tenant)
    users = AsyncLists(calls.users)
    create_user = AsyncSends(calls.create_user)
    delete_user = AsyncSends(calls.delete_user)
    log_in = AsyncSends(calls.log_in)
    api_keys = AsyncLists(calls.api_keys)
    create_api_key = AsyncSends(calls.create_api_key)
    rotate_api_key = AsyncSends(calls.rotate_api_key)
    delete_api_key = AsyncSends(calls.delete_api_key)
    audit = AsyncLists(calls.audit)

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        tenant: str | None = None,
        transport: "httpx.AsyncBaseTransport | None" = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        user_agent: str | None = None,
    ) -> None:
        # As in the other client: what is not needed is not imported.
        from ingather.client.http import AsyncHttpSession  # noqa: PLC0415

        self._server = Server.at(base_url, api_key, tenant, user_agent)
        self._sleep = sleep
        self.session = AsyncHttpSession(self._server, transport, sleep)

    @property
    def base_url(self) -> str:
        return self._server.base_url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self.session.close()

    async def wait(self, batch_id: str, *, timeout: float | None = None) -> Batch:
        """The batch as it ended; see ``IngatherClient.wait``."""
        waiting = Waiting(timeout)
        while True:
            batch = await self.batch(batch_id, wait=waiting.seconds())
            pause = waiting.pause(batch)
            if pause is None:
                return batch
            await self._sleep(pause)

    async def events(
        self, batch_id: str, *, after: int | None = None, on_lost: OnLost | None = None
    ) -> AsyncIterator[StreamEvent]:
        """A batch's events to its end; see ``IngatherClient.events``.

        Whoever leaves early closes it: ``async with aclosing(client.events(…)) as events``.
        """
        following = Following(batch_id, after, on_lost)
        while True:
            failure: ClientError | None = None
            try:
                async with self.session.frames(following.call()) as frames:
                    if frames is None:
                        return
                    async for name, data in frames:
                        for event in following.take(name, data):
                            yield event
                        if following.is_over:
                            return
                        if following.must_leave:
                            break
                if not following.must_leave:
                    following.closed(is_final=(await self.batch(batch_id)).is_final)
                    if following.is_over:
                        return
            except ClientError as error:
                failure = error
            await self._sleep(following.lost(failure))

    async def job_messages(
        self,
        user_id: str,
        *,
        job_id: str | None = None,
        after: str | None = None,
        ping_after: float = QUIET,
        on_lost: OnLost | None = None,
    ) -> AsyncIterator[JobMessage]:
        """What is told of a user's jobs over WebSocket; see ``IngatherClient.job_messages``."""
        # As in the other client.
        from ingather.client.sockets import async_messages  # noqa: PLC0415

        following = JobFollowing(self._server, user_id, job_id, after=after, ping_after=ping_after, on_lost=on_lost)
        while True:
            try:
                async with aclosing(async_messages(following)) as texts:
                    async for text in texts:
                        for message in following.take(text):
                            yield message
                        if following.is_over:
                            return
            except ClientError as error:
                failure = error
            await self._sleep(following.lost(failure))
