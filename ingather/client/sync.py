"""The client that waits for each answer."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ingather.client import calls
from ingather.client.errors import ClientError
from ingather.client.following import Following, OnLost, Waiting
from ingather.client.jobs import QUIET, JobFollowing
from ingather.client.models import Batch, JobMessage, StreamEvent
from ingather.client.operations import Downloads, Lists, Sends
from ingather.client.server import Server

if TYPE_CHECKING:
    import httpx


class IngatherClient:
    """Open it as a context manager. Threads may share it.

    What goes wrong is raised as ``ClientError`` and its children. A connection that is refused or breaks is
    tried again, and 429 and 503 are waited out as the server asks, within bounds: that is safe, because every POST
    carries an idempotency key.

    Args:
        base_url: where the API is, without ``/v1``.
        api_key: a key or an access token, sent as a bearer token.
        tenant: a tenant's id, sent as ``X-Tenant-ID``.
        transport: for servers in the same process.
        sleep: waits between attempts.
        user_agent: the program that uses it.

    Raises:
        AddressError: ``base_url`` is none.
        UnsendableError: the key or the tenant is none.
    """

    # Submitting
    limits = Sends(calls.limits)
    submit = Sends(calls.submit)
    submit_documents = Sends(calls.submit_documents)
    submit_lines = Sends(calls.submit_lines)
    submit_sources = Sends(calls.submit_sources)
    preview = Sends(calls.preview)
    preview_lines = Sends(calls.preview_lines)
    open_batch = Sends(calls.open_batch)
    add = Sends(calls.add)
    add_lines = Sends(calls.add_lines)
    add_sources = Sends(calls.add_sources)
    seal = Sends(calls.seal)

    # Batches
    batches = Lists(calls.batches)
    batch = Sends(calls.batch)
    start = Sends(calls.start)
    pause = Sends(calls.pause)
    resume = Sends(calls.resume)
    cancel = Sends(calls.cancel)
    retry = Sends(calls.retry)
    edit = Sends(calls.edit)
    push_again = Lists(calls.push_again)

    # What came out
    documents = Lists(calls.documents)
    document = Sends(calls.document)
    text = Sends(calls.text)
    raw = Downloads(calls.raw)
    report = Downloads(calls.report)
    search = Sends(calls.search)
    event_page = Sends(calls.event_page)
    stream_ticket = Sends(calls.stream_ticket)

    # Sources
    connections = Lists(calls.connections)
    create_connection = Sends(calls.create_connection)
    connection = Sends(calls.connection)
    test_connection = Sends(calls.test_connection)
    connection_files = Lists(calls.connection_files)
    delete_connection = Sends(calls.delete_connection)

    # Webhooks
    webhooks = Lists(calls.webhooks)
    create_webhook = Sends(calls.create_webhook)
    webhook = Sends(calls.webhook)
    edit_webhook = Sends(calls.edit_webhook)
    rotate_webhook = Sends(calls.rotate_webhook)
    test_webhook = Sends(calls.test_webhook)
    delete_webhook = Sends(calls.delete_webhook)
    deliveries = Lists(calls.deliveries)
    delivery = Sends(calls.delivery)
    redeliver = Sends(calls.redeliver)

    # Texts
    process_texts = Sends(calls.process_texts)
    text_batch = Sends(calls.text_batch)

    # Jobs over sources
    create_job = Sends(calls.create_job)
    job = Sends(calls.job)
    jobs = Lists(calls.jobs)
    control_job = Sends(calls.control_job)
    job_statistics = Sends(calls.job_statistics)

    # Administration
    tenants = Lists(calls.tenants)
    create_tenant = Sends(calls.create_tenant)
    edit_tenant = Sends(calls.edit_tenant)
    delete_tenant = Sends(calls.delete_tenant)
    users = Lists(calls.users)
    create_user = Sends(calls.create_user)
    delete_user = Sends(calls.delete_user)
    log_in = Sends(calls.log_in)
    api_keys = Lists(calls.api_keys)
    create_api_key = Sends(calls.create_api_key)
    rotate_api_key = Sends(calls.rotate_api_key)
    delete_api_key = Sends(calls.delete_api_key)
    audit = Lists(calls.audit)

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        tenant: str | None = None,
        transport: "httpx.BaseTransport | None" = None,
        sleep: Callable[[float], None] = time.sleep,
        user_agent: str | None = None,
    ) -> None:
        # httpx takes longer to import than most programs take to find out that they do not need it.
        from ingather.client.http import HttpSession  # noqa: PLC0415

        self._server = Server.at(base_url, api_key, tenant, user_agent)
        self._sleep = sleep
        self.session = HttpSession(self._server, transport, sleep)

    @property
    def base_url(self) -> str:
        return self._server.base_url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self.session.close()

    def wait(self, batch_id: str, *, timeout: float | None = None) -> Batch:
        """The batch as it ended.

        Raises:
            StillRunningError: it has not ended after ``timeout`` seconds; it goes on.
        """
        waiting = Waiting(timeout)
        while True:
            batch = self.batch(batch_id, wait=waiting.seconds())
            pause = waiting.pause(batch)
            if pause is None:
                return batch
            self._sleep(pause)

    def events(
        self, batch_id: str, *, after: int | None = None, on_lost: OnLost | None = None
    ) -> Iterator[StreamEvent]:
        """A batch's events to its end, over any number of connections: no gap that is not told, no duplicate.

        ``stream.reset`` says that events are missing which the server no longer has; the snapshot that follows is
        the batch as it is then.

        Args:
            batch_id: whose events.
            after: ``seq`` behind which to go on; 0 begins with the first event, None with a snapshot of now.
            on_lost: told why a connection was lost, before the next is made.

        Raises:
            NotFoundError: there is no such batch.
            StreamLostError: nobody answered for five minutes.
        """
        following = Following(batch_id, after, on_lost)
        while True:
            failure: ClientError | None = None
            try:
                with self.session.frames(following.call()) as frames:
                    if frames is None:
                        return
                    for name, data in frames:
                        yield from following.take(name, data)
                        if following.is_over:
                            return
                        if following.must_leave:
                            break
                if not following.must_leave:
                    following.closed(is_final=self.batch(batch_id).is_final)
                    if following.is_over:
                        return
            except ClientError as error:
                failure = error
            self._sleep(following.lost(failure))

    def job_messages(
        self,
        user_id: str,
        *,
        job_id: str | None = None,
        after: str | None = None,
        ping_after: float = QUIET,
        on_lost: OnLost | None = None,
    ) -> Iterator[JobMessage]:
        """What is told of a user's jobs over WebSocket, over any number of connections.

        Args:
            user_id: whose jobs.
            job_id: one of them; its messages end with the job. Without it they go on for ever.
            after: ``cursor`` of the message behind which to go on.
            ping_after: seconds without a message after which the server is asked whether it is there; after as
                many more it counts as lost.
            on_lost: told why a connection was lost, before the next is made.

        Raises:
            ApiError: the server refused the connection.
            StreamLostError: nobody answered for five minutes.
        """
        # Few programs follow jobs.
        from ingather.client.sockets import messages  # noqa: PLC0415

        following = JobFollowing(self._server, user_id, job_id, after=after, ping_after=ping_after, on_lost=on_lost)
        while True:
            try:
                with closing(messages(following)) as texts:
                    for text in texts:
                        yield from following.take(text)
                        if following.is_over:
                            return
            except ClientError as error:
                failure = error
            self._sleep(following.lost(failure))
