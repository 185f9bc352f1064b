"""What happens to a batch, on its way to its tenant's webhooks.

A change of state is told as it is noted in the journal: its position there makes the event's id, so that it is sent
once whatever crashes. The batch does not wait for it while it runs, and does not end without it. How it ended is told
by the activity that writes the catalog's last word.
"""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.webhooks import WebhookActivities
    from ingather.domain.webhooks import news_of
    from ingather.models.batch import BatchProgress, BatchSpec, BatchState
    from ingather.models.messages import MAX_NOTES, BatchNews, TellNewsInput
    from workflows.options import NEWS


class News:
    """News of one batch; none before somebody listens."""

    def __init__(self, spec: BatchSpec) -> None:
        self._spec = spec
        self.is_heard = spec.is_heard
        """Somebody listened when it was submitted, or has begun to since."""
        self._waiting: list[BatchNews] = []
        self._telling: asyncio.Task[None] | None = None

    @property
    def is_told(self) -> bool:
        """Nothing is left to tell."""
        return self._telling is None

    def note(self, previous: BatchState | None, progress: BatchProgress, position: int) -> None:
        """The batch entered a state, which the journal has at ``position``; nobody waits for anything here."""
        kind = news_of(previous, progress.state) if self.is_heard else None
        if kind is None:
            return
        self._waiting.append(
            BatchNews(
                kind=kind,
                which=f"j{position}",
                at=workflow.now(),
                state=progress.state,
                version=progress.version,
                counts=progress.counts,
                failures_by_code=progress.failures_by_code,
                retry_round=progress.retry_round,
            )
        )
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        """One activity at a time: somebody who pauses and resumes all day makes no flood of them."""
        while self._waiting:
            news, self._waiting = tuple(self._waiting[:MAX_NOTES]), self._waiting[MAX_NOTES:]
            try:
                await workflow.execute_activity_method(
                    WebhookActivities.tell_news,
                    TellNewsInput(tenant_id=self._spec.tenant_id, batch_id=self._spec.batch_id, news=news),
                    summary=", ".join(each.kind for each in news[:3]),
                    **NEWS,
                )
            except ActivityError as error:
                # It is tried for ever, so somebody ended it by hand, and the batch goes on.
                workflow.logger.warning("webhook.not_told", extra={"reason": str(error.cause)})
        self._telling = None
