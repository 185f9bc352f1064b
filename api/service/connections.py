"""Connections to sources: made, shown, tested, browsed, and looked up for what batches select."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
import uuid_utils
from pydantic import ValidationError

from api.access import Caller
from api.idempotency import check_key
from api.problems import field_problems, invalid, request_invalid
from ingather.domain.audit import account_event
from ingather.models.audit import AuditType
from ingather.models.connection_settings import SETTINGS, split
from ingather.models.errors import (
    AlreadyExistsError,
    ConnectionNotFoundError,
    CredentialKeyMissingError,
    IdempotencyKeyReusedError,
    IngatherError,
    SourceAccessDeniedError,
    SourceTypeMismatchError,
    SourceUnavailableError,
    UnknownConnectionError,
)
from ingather.models.identity import batch_id_for
from ingather.models.source import Connection, FileSelection, SourceType
from ingather.ports.connections import Connections
from ingather.ports.secret_box import SecretBox
from ingather.ports.source import Source, SourceFactory, SourcePage

log = structlog.get_logger(__name__)

_RENEWED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class MadeConnection:
    """A connection that was registered, or had been by the same request before."""

    connection: Connection
    was_replayed: bool


_ADVICE_OF_A_TEST: Mapping[type[IngatherError], str] = {
    SourceUnavailableError: "Check that the source answers requests from where this service runs, then test again.",
    SourceAccessDeniedError: "Correct the settings: delete the connection and create it again under the same id.",
}


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of trying a connection."""

    problem: IngatherError | None
    """None where it works."""
    took_ms: float

    @property
    def action(self) -> str | None:
        """What to do, where something is wrong: an error's general advice is about a document."""
        if self.problem is None:
            return None
        general = _ADVICE_OF_A_TEST.get(type(self.problem))
        return general if general and self.problem.action == self.problem.advice else self.problem.action


@dataclass(slots=True)
class ConnectionService:
    """Keeps a tenant's ways to its sources."""

    connections: Connections
    box: SecretBox
    sources: SourceFactory

    async def create(
        self,
        caller: Caller,
        connection_id: str | None,
        source_type: SourceType,
        settings: dict[str, Any],
        *,
        key: str | None = None,
    ) -> MadeConnection:
        """Register a connection; nothing is asked of the source.

        The same again is answered with what is there. Raises ``ValidationFailedError`` for settings that do not fit or
        lead where this deployment does not allow it, ``AlreadyExistsError`` where another has the id,
        ``IdempotencyKeyReusedError``, ``CredentialKeyMissingError``.
        """
        key = check_key(key)
        its_id = connection_id or _derived(caller, key) or str(uuid_utils.uuid7())
        given, hidden = _split(source_type, settings)
        wanted = Connection(
            connection_id=its_id,
            tenant_id=caller.tenant_id,
            source_type=source_type,
            settings=given,
            secret_names=tuple(hidden),
            created_by=caller.user,
            created_at=datetime.now(UTC),
        )
        if hidden:
            wanted = wanted.model_copy(update={"sealed": self.box.seal(hidden, wanted.owner)})
        await self._try_to_open(wanted)
        event = account_event(
            AuditType.CONNECTION_CREATED, wanted, caller.actor, wanted.created_at, source_type=source_type.value
        )
        there, is_new = await self.connections.add_connection(wanted, [event])
        if is_new:
            log.info("connection.created", connection_id=its_id, source_type=source_type.value)
        elif not self._is_same(there, wanted, hidden):
            if connection_id is None:
                raise IdempotencyKeyReusedError("This Idempotency-Key was used with another request.")
            raise AlreadyExistsError(
                f"There is a connection {connection_id!r} with other settings.",
                action="Choose another id, or delete that one first.",
                field="connection_id",
            )
        return MadeConnection(there, was_replayed=not is_new)

    async def connection(self, tenant_id: str, connection_id: str) -> Connection:
        """One of the tenant's. Raises ``ConnectionNotFoundError``."""
        found = await self.connections.get_connection(tenant_id, connection_id)
        if found is None:
            raise ConnectionNotFoundError("No connection of this tenant has this id.")
        return found

    async def page(
        self, tenant_id: str, limit: int, before: tuple[datetime, str] | None
    ) -> tuple[list[Connection], bool]:
        """The tenant's, newest first, and whether there are more."""
        found = await self.connections.list_connections(tenant_id, limit + 1, before=before)
        return found[:limit], len(found) > limit

    async def delete(self, caller: Caller, connection_id: str) -> None:
        """Forget it and its credentials. Documents that are still to be fetched through it fail with ``connection_gone``."""
        connection = await self.connection(caller.tenant_id, connection_id)
        event = account_event(AuditType.CONNECTION_DELETED, connection, caller.actor, datetime.now(UTC))
        await self.connections.delete_connection(caller.tenant_id, connection_id, [event])
        log.info("connection.deleted", connection_id=connection_id)

    async def test(self, tenant_id: str, connection_id: str) -> Tested:
        """Use it as a batch would. That it does not work is an answer. Raises ``ConnectionNotFoundError``."""
        connection = await self.connection(tenant_id, connection_id)
        began = time.perf_counter()
        problem: IngatherError | None = None
        try:
            async with self._opened(connection) as source:
                await source.check()
        except IngatherError as error:
            problem = error
        took_ms = round((time.perf_counter() - began) * 1_000, 1)
        log.info("connection.tested", connection_id=connection_id, code=problem.code if problem else None)
        return Tested(problem, took_ms)

    async def browse(
        self, tenant_id: str, connection_id: str, folder: str | None, cursor: str | None, limit: int
    ) -> SourcePage:
        """Part of a folder of the source. Raises ``ConnectionNotFoundError`` and what sources raise."""
        connection = await self.connection(tenant_id, connection_id)
        async with self._opened(connection) as source:
            return await source.list_files(folder, cursor=cursor, limit=limit)

    async def check_selections(self, tenant_id: str, selections: Sequence[FileSelection]) -> None:
        """Whether the tenant has these connections, of these kinds; nothing is asked of the sources.

        Raises ``UnknownConnectionError``, ``SourceTypeMismatchError``.
        """
        kinds = {}
        for connection_id in dict.fromkeys(selection.connection_id for selection in selections):
            found = await self.connections.get_connection(tenant_id, connection_id)
            if found is None:
                raise UnknownConnectionError(f"There is no connection {connection_id!r}.", connection_id=connection_id)
            kinds[connection_id] = found.source_type
        for selection in selections:
            kind = kinds[selection.connection_id]
            if selection.source_type is not kind:
                raise SourceTypeMismatchError(
                    f"The connection {selection.connection_id!r} is a {kind.value} source, "
                    f"not {selection.source_type.value}.",
                    connection_id=selection.connection_id,
                    source_type=kind.value,
                )

    async def renew_all(self) -> int:
        """Encrypt credentials anew that are not under the newest key; answers how many. Several processes may do it."""
        renewed, after = 0, None
        while found := await self.connections.list_sealed(_RENEWED_AT_ONCE, after=after):
            for connection in found:
                renewed += await self._renew(connection)
            after = found[-1].tenant_id, found[-1].connection_id
        if renewed:
            log.info("connection.credentials_renewed", count=renewed)
        return renewed

    async def _renew(self, connection: Connection) -> bool:
        try:
            sealed = self.box.renewed(connection.sealed or "")
        except CredentialKeyMissingError as error:
            # The connection says so itself whenever it is used; the others work.
            facts = {"connection_id": connection.connection_id, "tenant_id": connection.tenant_id}
            log.warning("connection.credentials_unreadable", reason=error.message, action=error.action, **facts)
            return False
        return sealed is not None and await self.connections.replace_sealed(connection, sealed)

    async def _try_to_open(self, connection: Connection) -> None:
        """A connection that this deployment would never open is refused when it is made."""
        try:
            async with self._opened(connection):
                return
        except SourceAccessDeniedError as error:
            # The general advice is about a connection that is there.
            advice = "" if error.action == error.advice else f" {error.action}"
            raise invalid("#/settings", f"{error.message}{advice}", error.code) from error

    @asynccontextmanager
    async def _opened(self, connection: Connection) -> AsyncIterator[Source]:
        source = self.sources.open(connection)
        try:
            yield source
        finally:
            await source.close()

    def _is_same(self, there: Connection, wanted: Connection, hidden: dict[str, Any]) -> bool:
        known = self.box.open(there.sealed, there.owner) if there.sealed else {}
        return (there.source_type, there.settings, known) == (wanted.source_type, wanted.settings, hidden)


def _split(source_type: SourceType, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        return split(SETTINGS[source_type].model_validate(settings))
    except ValidationError as error:
        problems = field_problems(error, "#/settings")
        raise request_invalid("The settings do not fit this kind of source; see errors.", problems) from None


def _derived(caller: Caller, key: str | None) -> str | None:
    """The id that an idempotency key stands for."""
    return batch_id_for(caller.tenant_id, "connections", key) if key else None
