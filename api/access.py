"""The door of every route: who asks, may they, and is it too much.

Nothing is open unless a route says so: the application's own dependency asks for every route, WebSockets
included. ``GuardedRoute`` asks before the body is read, so that nobody who may not is told what is wrong with it.

In ``required`` mode the credential decides the tenant. In ``open`` mode, on loopback, a request acts for the tenant
it names: a field of a contract, else ``X-Tenant-ID``, else the credential's, else the default one.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import structlog
from fastapi import Query, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from api.credentials import Authenticator, credential_of
from api.rates import Rate, Rates, address_of
from api.service.tenants import TenantBook
from api.sessions import check_proof
from api.streams.clients import StreamClient
from api.tickets import ADVICE as TICKET_ADVICE
from api.tickets import PARAMETER, StreamTickets, Ticket, stream_of_batch
from ingather.domain.api_keys import looks_like_key
from ingather.domain.identifiers import as_uuid
from ingather.models.accounts import Principal, Scope, Tenant
from ingather.models.audit import Actor
from ingather.models.errors import (
    BatchNotFoundError,
    CredentialInUrlError,
    DependencyError,
    ScopeMissingError,
    TenantNotFoundError,
    TooManyStreamsError,
    UnauthorizedError,
    UserNotFoundError,
)
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.catalog import Catalog
from ingather.ports.rate_limiter import RateState

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])

_RULES = "__access_rules__"
_MOST_REMEMBERED = 50_000
STRANGERS_PER_ADDRESS = 100
"""WebSockets from one address which are open and have not said yet who they are."""
STRANGERS = 1_000
"""Those of a process."""
_CREDENTIAL_PARAMETERS = frozenset(
    {"access_token", "api-key", "api_key", "apikey", "authorization", "token", "x-api-key"}
)

TicketParameter = Annotated[
    str | None,
    Query(alias=PARAMETER, description="A ticket of `POST /v1/stream-tickets`, where no header can be sent."),
]
"""For the OpenAPI document; the gate reads it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a route asks of its callers."""

    is_public: bool = False
    """Anybody may, nothing is counted."""
    scope: Scope | None = None
    """None: ``read`` for GET and HEAD, ``write`` for the rest."""
    rate: Rate = Rate.REQUESTS
    makes_job: bool = False
    """Counts as a batch created, besides."""
    ticket_for: str | None = None
    """Parameter of the path that names the batch whose stream it is: a stream ticket lets in here."""

    def scope_for(self, method: str) -> Scope:
        return self.scope or (Scope.READ if method in {"GET", "HEAD", "OPTIONS"} else Scope.WRITE)


def access(**rules: Any) -> Callable[[_Endpoint], _Endpoint]:
    """Say what a route asks, where it is not the ordinary: fields of ``Rules``. It stands below the route's decorator."""

    def mark(endpoint: _Endpoint) -> _Endpoint:
        setattr(endpoint, _RULES, Rules(**rules))
        return endpoint

    return mark


public = access(is_public=True)
"""Health, documentation, log-in: no credential is asked for."""


def rules_of(endpoint: object) -> Rules:
    """What an endpoint was marked with."""
    found = getattr(endpoint, _RULES, None)
    return found if isinstance(found, Rules) else Rules()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and for which tenant."""

    principal: Principal
    tenant_id: str
    """Acts for this one, where the request names no other."""
    is_narrowed: bool
    """Other tenants' things do not exist for it."""
    is_open: bool
    """It may act as whom it names."""
    ticket: Ticket | None = None
    """What it was let in with, where that was no credential."""

    @property
    def user(self) -> str:
        """The name it acts under."""
        return self.principal.user

    @property
    def actor(self) -> Actor:
        """Who its audit events name."""
        principal = self.principal
        credential = None if principal.is_anonymous else f"{principal.kind}:{principal.credential_id}"
        return Actor(name=self.user, credential=credential)

    def may(self, scope: Scope) -> bool:
        return self.is_open or self.principal.may(scope)

    def require(self, scope: Scope) -> None:
        """Raises ``ScopeMissingError`` for one that may not."""
        if not self.may(scope):
            raise ScopeMissingError(f"The credential lacks the scope {scope.value}.", scope=scope.value)

    def acting_as(self, user: str) -> "Caller":
        """The same, under the name a contract's field gives. Raises ``UserNotFoundError`` for another's."""
        if not self.is_open and user != self.principal.user:
            raise UserNotFoundError("There is no such user.")
        return replace(self, principal=self.principal.model_copy(update={"user": user}))


@dataclass(slots=True)
class Gate:
    """Lets callers in."""

    authenticator: Authenticator
    tickets: StreamTickets
    tenants: TenantBook
    rates: Rates
    catalog: Catalog
    is_open: bool
    streams_per_key: int = 20
    websockets_per_user: int = 10
    _batches: dict[str, str] = field(default_factory=dict)
    """Tenants by batch, for callers that name none: it never changes."""
    _strangers: Counter[str] = field(default_factory=Counter)
    """Connections that have not said who they are, by address."""

    async def admit(self, connection: HTTPConnection, told: list[RateState], credential: str | None = None) -> Caller:
        """Who it is, by the credential of its headers unless it came another way.

        Raises ``UnauthorizedError``, ``CredentialInUrlError``, ``ScopeMissingError``, ``RateLimitedError``,
        ``TenantNotFoundError``, ``UnprovenRequestError``.
        """
        rules = rules_of(connection.scope.get("endpoint"))
        check_proof(connection.headers, connection.scope.get("method", "GET"))
        query = _query_of(connection)
        credential = credential or credential_of(connection.headers)
        principal, ticket = await self._principal(connection, rules, credential, query.get(PARAMETER))
        if principal.is_anonymous and not self.is_open:
            raise UnauthorizedError("This deployment asks for a credential.")
        await self._count(principal, rules, told)
        named = connection.headers.get("x-tenant-id") or (ticket.tenant_id if ticket else None)
        caller = replace(await self._caller(principal, named), ticket=ticket)
        scope = rules.scope_for(connection.scope.get("method", "GET"))
        caller.require(scope)
        if ticket is not None:
            await self.authenticator.note_opening(ticket)
        structlog.contextvars.bind_contextvars(tenant_id=caller.tenant_id, user=caller.user)
        return caller

    @asynccontextmanager
    async def stranger(self, connection: HTTPConnection) -> AsyncIterator[None]:
        """Room for one that is connected and has yet to show a credential; showing none is counted as a wrong one.

        Raises ``TooManyStreamsError`` where too many do so, ``RateLimitedError`` as for wrong credentials.
        """
        address = address_of(connection.scope)
        self.rates.check_address(address)
        for count, most in ((self._strangers[address], STRANGERS_PER_ADDRESS), (self._strangers.total(), STRANGERS)):
            if count >= most:
                raise TooManyStreamsError(f"{most} connections have not said yet who they are.", maximum=most)
        self._strangers[address] += 1
        try:
            yield
        except UnauthorizedError:
            await self.rates.count_failure(address)
            raise
        finally:
            self._strangers[address] -= 1
            self._strangers += Counter()  # without those of which none is left

    async def is_welcome(self, shown: str | Ticket) -> bool:
        """Whether a credential or ticket that was right is so still. While that cannot be told, it is."""
        try:
            if isinstance(shown, Ticket):
                await self.authenticator.principal_of(shown)
            else:
                await self.authenticator.principal(shown)
        except UnauthorizedError:
            return False
        except DependencyError:
            return True
        return True

    async def _principal(
        self, connection: HTTPConnection, rules: Rules, credential: str | None, sig: str | None
    ) -> tuple[Principal, Ticket | None]:
        """By the credential, else by the ticket of the query."""
        address = address_of(connection.scope)
        if credential is not None and self.authenticator.is_unheard_of(credential):
            self.rates.check_address(address)
        try:
            if credential is None and sig is not None:
                ticket = self._ticket(connection, rules, sig)
                return await self.authenticator.principal_of(ticket), ticket
            return await self.authenticator.principal(credential), None
        except UnauthorizedError:
            await self.rates.count_failure(address)
            raise

    def _ticket(self, connection: HTTPConnection, rules: Rules, sig: str) -> Ticket:
        """Raises ``UnauthorizedError`` for one that is not for this stream."""
        ticket = self.tickets.verify(sig)
        batch_id = as_uuid(str(connection.path_params.get(rules.ticket_for))) if rules.ticket_for else None
        if batch_id is None or ticket.stream != stream_of_batch(batch_id):
            raise UnauthorizedError("The stream ticket is for another stream.", action=TICKET_ADVICE)
        return ticket

    async def tenant_named(self, caller: Caller, tenant_id: str | None) -> Tenant:
        """The tenant that a field of the request names, the caller's own without one. Raises ``TenantNotFoundError``."""
        wanted = caller.tenant_id if tenant_id is None else as_uuid(tenant_id)
        is_allowed = wanted is not None and (caller.is_open or wanted == caller.tenant_id)
        found = await self.tenants.find(wanted) if is_allowed and wanted else None
        if found is None:
            raise TenantNotFoundError("There is no such tenant.")
        return found

    async def tenant_of_batch(self, caller: Caller, batch_id: str) -> str:
        """The tenant in which a batch is looked for: any that has it, for a caller that is not narrowed to one."""
        if caller.is_narrowed:
            return caller.tenant_id
        known = self._batches.get(batch_id)
        if known is None:
            record = await self.catalog.get_batch(batch_id)
            if record is None:
                return caller.tenant_id
            if len(self._batches) >= _MOST_REMEMBERED:
                self._batches.clear()
            known = self._batches[batch_id] = record.tenant_id
        return known

    async def require_stream(self, caller: Caller, batch_id: str) -> str:
        """The tenant of a batch the caller can see, or of an upload that is going to be it. Raises ``BatchNotFoundError``."""
        tenant_id = await self.tenant_of_batch(caller, batch_id)
        if await self.catalog.get_batch(batch_id, tenant_id) is not None:
            return tenant_id
        upload = await self.catalog.uploads.get_upload_of_batch(
            batch_id, caller.tenant_id if caller.is_narrowed else None
        )
        if upload is None:
            raise BatchNotFoundError("No batch of this tenant has this id.")
        return upload.tenant_id

    async def count_job(self, caller: Caller, told: list[RateState] | None = None) -> None:
        """Count a batch that somebody creates; who gives no name at all is not counted. Raises ``RateLimitedError``."""
        if caller.principal.is_anonymous and caller.user == Principal().user:
            return
        own = await self.tenants.find(caller.tenant_id)
        subject = f"{caller.tenant_id}:{caller.user}"
        await self.rates.count(Rate.JOBS, subject, own.limits if own else None, told=told)

    async def count_stream(self, caller: Caller, connection: HTTPConnection) -> StreamClient | None:
        """Count an event stream that somebody opens, and say how many may be open at a time; None where nobody says
        who it is. Raises ``RateLimitedError``.
        """
        principal = caller.principal
        if principal.is_anonymous:
            return None
        own = await self.tenants.find(caller.tenant_id)
        subject, limits = f"{principal.kind}:{principal.credential_id}", own.limits if own else None
        await self.rates.count(Rate.STREAMS, subject, limits, told=connection.scope["state"].setdefault("rates", []))
        shown = caller.ticket or credential_of(connection.headers)
        return StreamClient(
            subject,
            (limits.streams_per_key if limits else None) or self.streams_per_key,
            is_welcome=partial(self.is_welcome, shown) if shown else None,
        )

    async def count_socket(self, caller: Caller, credential: str | None) -> StreamClient:
        """Count a WebSocket that somebody opens, by the user it is for. Raises ``RateLimitedError``."""
        principal = caller.principal
        if not principal.is_anonymous:
            own = await self.tenants.find(caller.tenant_id)
            subject = f"{principal.kind}:{principal.credential_id}"
            await self.rates.count(Rate.STREAMS, subject, own.limits if own else None)
        return StreamClient(
            f"{caller.tenant_id}:{caller.user}",
            self.websockets_per_user,
            "websockets_per_user",
            partial(self.is_welcome, credential) if credential else None,
        )

    async def _count(self, principal: Principal, rules: Rules, told: list[RateState]) -> None:
        if principal.is_anonymous:
            await self.rates.count_anonymous(told)
            return
        own = await self.tenants.find(principal.tenant_id) if principal.tenant_id else None
        limits = own.limits if own else None
        await self.rates.count(rules.rate, f"{principal.kind}:{principal.credential_id}", limits, told=told)
        if rules.makes_job:
            await self.rates.count(Rate.JOBS, f"{principal.tenant_id}:{principal.user}", limits, told=told)

    async def _caller(self, principal: Principal, named: str | None) -> Caller:
        wanted = None if named is None else as_uuid(named)
        own = principal.tenant_id or (DEFAULT_TENANT_ID if self.is_open else "")
        tenant_id = wanted or own
        is_refused = (named is not None and wanted is None) or (not self.is_open and tenant_id != own)
        if is_refused or await self.tenants.find(tenant_id) is None:
            raise TenantNotFoundError("No tenant has the id given in X-Tenant-ID.")
        return Caller(principal, tenant_id, is_narrowed=not self.is_open or wanted is not None, is_open=self.is_open)


def _query_of(connection: HTTPConnection) -> dict[str, str]:
    """The query. Raises ``CredentialInUrlError`` where it holds a key or a token, whatever it is called."""
    text = connection.scope.get("query_string", b"").decode("latin-1")
    query = parse_qsl(text, keep_blank_values=True) if text else []
    for name, value in query:
        if name.lower() in _CREDENTIAL_PARAMETERS or looks_like_key(value):
            raise CredentialInUrlError("Keys and tokens are not accepted in a URL.")
    return dict(query)


async def admitted(connection: HTTPConnection) -> Caller | None:
    """The request's caller, let in once; None for a public route."""
    state = connection.scope.setdefault("state", {})
    if "caller" not in state:
        if rules_of(connection.scope.get("endpoint")).is_public:
            state["caller"] = None
        else:
            gate: Gate = connection.app.state.parts.gate
            state["caller"] = await gate.admit(connection, state.setdefault("rates", []))
    caller: Caller | None = state["caller"]
    return caller


class GuardedRoute(APIRoute):
    """A route whose callers are let in before its body is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            await admitted(request)
            return await handle(request)

        return guarded
