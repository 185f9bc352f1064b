"""Webhooks in memory: endpoints, a receiver that checks signatures as anybody's would, and what starts deliveries."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import standardwebhooks
from cryptography.fernet import Fernet
from temporalio.testing import ActivityEnvironment

from activities.webhooks import Newsroom, WebhookActivities
from ingather.adapters.fernet_box import FernetBox
from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.adapters.webhook_http import HttpWebhookSender
from ingather.domain.webhooks import new_secret
from ingather.models.batch import BatchState, Counts
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.messages import AttemptDeliveryInput, AttemptDeliveryOutput, BatchNews, DeliveryInput
from ingather.models.webhook import Webhook, WebhookDelivery, WebhookEventType
from ingather.ports.webhooks import DeliveryFilter
from tests.support.http_stand_in import Asked, HttpStandIn, Told, http_stand_in

BATCH = "01890000-0000-7000-8000-000000000001"


@dataclass
class Receiver:
    """Takes events whose signature fits, and remembers them."""

    secrets: list[str]
    """A signature with any of these is good."""
    answers: list[Told] = field(default_factory=list)
    """To the requests to come, in order; 204 to those after."""
    received: list[dict[str, Any]] = field(default_factory=list)
    """Events that were answered with 2xx."""
    server: HttpStandIn | None = None

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"{self.server.url}/hook?token=abc"

    @property
    def asked(self) -> list[Asked]:
        assert self.server is not None
        return self.server.asked

    async def answer(self, asked: Asked) -> Told:
        event = verified(asked, self.secrets)
        told = self.answers.pop(0) if self.answers else Told(204)
        if told.status < 300:
            self.received.append(event)
        return told


def verified(asked: Asked, secrets: list[str]) -> dict[str, Any]:
    """The event of a request; fails where no secret fits."""
    for secret in secrets:
        try:
            return dict(standardwebhooks.Webhook(secret).verify(asked.body, asked.headers))
        except standardwebhooks.WebhookVerificationError:
            continue
    raise AssertionError("no secret fits the signature")


@asynccontextmanager
async def receiver(*secrets: str) -> AsyncIterator[Receiver]:
    """A receiver on loopback."""
    made = Receiver(list(secrets))
    async with http_stand_in(made.answer) as made.server:
        yield made


@dataclass
class StarterStandIn:
    """What starts deliveries, as far as activities see it."""

    started: dict[str, DeliveryInput] = field(default_factory=dict)
    calls: int = 0
    dies_before: int | None = None
    """The call at which the process goes away."""

    async def start_delivery(self, delivery: DeliveryInput, _summary: str) -> None:
        self.calls += 1
        if self.calls == self.dies_before:
            raise ConnectionError("killed")
        self.started.setdefault(delivery.delivery_id, delivery)


@dataclass
class Post:
    """The activities with everything behind them, in memory but for the requests."""

    catalog: InMemoryCatalog = field(default_factory=InMemoryCatalog)
    box: FernetBox = field(default_factory=lambda: FernetBox([Fernet.generate_key().decode()]))
    sender: HttpWebhookSender = field(default_factory=lambda: HttpWebhookSender(allow_private=True))
    starter: StarterStandIn = field(default_factory=StarterStandIn)

    @property
    def newsroom(self) -> Newsroom:
        return Newsroom(self.catalog.webhooks, self.starter, "https://ingather.example/")

    @property
    def activities(self) -> WebhookActivities:
        return WebhookActivities(self.catalog.webhooks, self.newsroom, self.box, self.sender)

    async def register(self, url: str, secret: str | None = None, **facts: Any) -> Webhook:
        webhook = Webhook(
            webhook_id=str(uuid.uuid4()),
            url=url,
            sealed="",
            **{"tenant_id": DEFAULT_TENANT_ID, "created_at": datetime.now(UTC), **facts},
        )
        sealed = self.box.seal({"secret": secret or new_secret()}, webhook.owner)
        there, _ = await self.catalog.webhooks.add_webhook(webhook.model_copy(update={"sealed": sealed}))
        return there

    async def tell(self, *news: BatchNews) -> list[DeliveryInput]:
        """Have news told; answers the deliveries that were started by now."""
        await self.newsroom.tell(DEFAULT_TENANT_ID, BATCH, news)
        return list(self.starter.started.values())

    async def attempt(
        self, delivery: DeliveryInput, number: int = 1, pause_seconds: float | None = 5.0
    ) -> AttemptDeliveryOutput:
        request = AttemptDeliveryInput(delivery=delivery, number=number, pause_seconds=pause_seconds)
        answer: AttemptDeliveryOutput = await ActivityEnvironment().run(self.activities.attempt_delivery, request)
        return answer

    async def log_of(self, webhook: Webhook) -> list[WebhookDelivery]:
        where = DeliveryFilter(webhook.tenant_id, webhook.webhook_id)
        return await self.catalog.webhooks.list_deliveries(where, 100)


def news(kind: WebhookEventType = WebhookEventType.BATCH_COMPLETED, which: str = "v7", **facts: Any) -> BatchNews:
    """Something that happened to a batch of three documents."""
    given = {
        "at": datetime(2026, 3, 14, 12, tzinfo=UTC),
        "state": BatchState.COMPLETED,
        "version": 7,
        "counts": Counts(total=3, done=3),
    }
    return BatchNews(kind=kind, which=which, **{**given, **facts})
