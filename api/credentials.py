"""Credentials to principals: API keys, access tokens, sessions of browsers and stream tickets.

A key is looked up at most once in two seconds, so a revoked one is refused after two at the latest, in every
process. Its last use is written at most once a minute, and nobody waits for that.
"""

import asyncio
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from api.sessions import looks_like_session, session_hash, session_of
from api.tickets import ADVICE as TICKET_ADVICE
from api.tickets import Ticket
from api.tokens import Tokens
from ingather.domain.api_keys import key_hash, key_id_of, looks_like_key
from ingather.models.accounts import KEY_USER_PREFIX, ApiKey, CredentialKind, Principal, Scope, Session, User
from ingather.models.errors import DependencyError, UnauthorizedError
from ingather.ports.accounts import Accounts

log = structlog.get_logger(__name__)

REMEMBERED_SECONDS = 2.0
USE_NOTED_SECONDS = 60.0
_MOST = 10_000
_NO_HASH = "0" * 64
_WRONG_KEY = "The API key is not known, or no longer valid."


@dataclass(frozen=True, slots=True)
class _SeenKey:
    key: ApiKey
    key_hash: str
    until: float
    is_disabled: bool = False
    """The user it acts as is."""

    def is_live(self, now: datetime) -> bool:
        return self.key.is_live(now) and not self.is_disabled


@dataclass(frozen=True, slots=True)
class _SeenUser:
    user: User
    until: float


def credential_of(headers: Mapping[str, str]) -> str | None:
    """What a request presents: the bearer token, else the API key, else the session of the browser's cookie.

    Raises ``UnauthorizedError`` for another scheme: whoever presents something expects it to count.
    """
    authorization = headers.get("authorization", "").strip()
    if authorization:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer" or not value.strip():
            raise UnauthorizedError("The Authorization header is not of the form `Bearer <key or token>`.")
        return value.strip()
    return headers.get("x-api-key", "").strip() or session_of(headers)


@dataclass(frozen=True, slots=True)
class _SeenSession:
    session: Session
    until: float


class Authenticator:
    """Tells who presents a credential."""

    def __init__(self, accounts: Accounts, tokens: Tokens, *, seconds: float = REMEMBERED_SECONDS) -> None:
        self.tokens = tokens
        self._accounts = accounts
        self._seconds = seconds
        self._keys: dict[str, _SeenKey] = {}
        self._users: dict[str, _SeenUser] = {}
        self._sessions: dict[str, _SeenSession] = {}
        self._noted: dict[str, float] = {}
        self._writes: set[asyncio.Task[None]] = set()

    async def principal(self, credential: str | None) -> Principal:
        """Who it is; anonymous without a credential. Raises ``UnauthorizedError`` for a wrong one."""
        if credential is None:
            return Principal()
        if looks_like_key(credential):
            return await self._by_key(credential)
        if looks_like_session(credential):
            return await self._by_session(session_hash(credential))
        return await self._by_token(credential)

    def is_unheard_of(self, credential: str) -> bool:
        """Whether the catalog has to be asked about a key that was not right in this process before."""
        key_id = key_id_of(credential)
        return key_id is not None and key_id not in self._noted

    def forget_key(self, key_id: str) -> None:
        """It was revoked just now."""
        self._keys.pop(key_id, None)

    def forget_session(self, secret_hash: str) -> None:
        """It was signed out just now."""
        self._sessions.pop(secret_hash, None)

    def forget_users(self) -> None:
        """One of them was changed or deleted just now, maybe with keys."""
        self._users.clear()
        self._keys.clear()

    async def close(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def _by_key(self, credential: str) -> Principal:
        key_id = key_id_of(credential)
        if key_id is None:
            raise UnauthorizedError("The API key is not well-formed: part of it may be missing.")
        seen = await self._seen_key(key_id)
        # Compared even where there is none, so that the answer takes as long.
        is_right = hmac.compare_digest(key_hash(credential), seen.key_hash if seen else _NO_HASH)
        if seen is None or not is_right or not seen.is_live(datetime.now(UTC)):
            raise UnauthorizedError(_WRONG_KEY)
        self._note_use(key_id)
        return _principal_of_key(seen.key)

    async def _seen_key(self, key_id: str) -> _SeenKey | None:
        seen = self._keys.get(key_id)
        if seen is not None and time.monotonic() < seen.until:
            return seen
        self._keys.pop(key_id, None)
        found = await self._accounts.get_key(key_id)
        if found is None:
            return None
        if len(self._keys) >= _MOST:
            self._keys.clear()
        user = await self._accounts.find_user(found[0].username) if found[0].username else None
        is_disabled = user is not None and user[0].is_disabled
        self._keys[key_id] = seen = _SeenKey(*found, time.monotonic() + self._seconds, is_disabled)
        return seen

    async def _by_session(self, secret_hash: str) -> Principal:
        seen = self._sessions.get(secret_hash)
        if seen is None or time.monotonic() >= seen.until:
            self._sessions.pop(secret_hash, None)
            found = await self._accounts.get_session(secret_hash)
            if found is None:
                raise UnauthorizedError("Nobody is signed in with this session.", action="Sign in again.")
            if len(self._sessions) >= _MOST:
                self._sessions.clear()
            self._sessions[secret_hash] = seen = _SeenSession(found, time.monotonic() + self._seconds)
        session, now = seen.session, datetime.now(UTC)
        if now >= session.expires_at:
            raise UnauthorizedError("The session has expired.", action="Sign in again.")
        match session.kind:
            case CredentialKind.KEY:
                key = await self._seen_key(session.credential_id)
                if key is None or not key.is_live(now):
                    raise UnauthorizedError("The API key that was signed in with is no longer valid.")
                principal = _principal_of_key(key.key)
            case _:
                principal = await self._by_user(session.credential_id, session.created_at)
        return principal.model_copy(update={"expires_at": session.expires_at})

    async def _by_token(self, credential: str) -> Principal:
        token = self.tokens.verify(credential)
        # Tokens are dated to the second: one of the very second in which the password was changed is let in.
        principal = await self._by_user(token.user_id, token.issued_at + timedelta(seconds=1))
        return principal.model_copy(update={"expires_at": token.expires_at})

    async def _by_user(self, user_id: str, given_at: datetime | None = None) -> Principal:
        """The user, for a credential that was given then. Raises ``UnauthorizedError`` for one that is not let in."""
        seen = self._users.get(user_id)
        if seen is None or time.monotonic() >= seen.until:
            self._users.pop(user_id, None)
            user = await self._accounts.get_user(user_id)
            if user is None:
                raise UnauthorizedError("The user is gone.")
            if len(self._users) >= _MOST:
                self._users.clear()
            self._users[user_id] = seen = _SeenUser(user, time.monotonic() + self._seconds)
        user = seen.user
        if user.is_disabled:
            raise UnauthorizedError("The user is disabled.", action="Ask an administrator to let it in again.")
        if given_at is not None and user.password_changed_at is not None and given_at < user.password_changed_at:
            raise UnauthorizedError("The password was changed since.", action="Log in again.")
        return Principal(
            kind=CredentialKind.TOKEN,
            credential_id=user.user_id,
            tenant_id=user.tenant_id,
            user=user.username,
            scopes=user.scopes,
        )

    async def principal_of(self, ticket: Ticket) -> Principal:
        """Whom a stream ticket was made for, as a reader. Raises ``UnauthorizedError`` where that one is gone, or the
        ticket has expired.
        """
        now = datetime.now(UTC)
        if now >= ticket.expires_at:
            raise UnauthorizedError("The stream ticket has expired.", action=TICKET_ADVICE)
        match ticket.kind:
            case CredentialKind.KEY:
                seen = await self._seen_key(ticket.credential_id)
                if seen is None or not seen.is_live(now):
                    raise UnauthorizedError("The API key that the stream ticket was made with is no longer valid.")
                found = _principal_of_key(seen.key)
            case CredentialKind.TOKEN:
                found = await self._by_user(ticket.credential_id)
            case CredentialKind.NONE:
                found = Principal()
        return found.model_copy(update={"scopes": frozenset({Scope.READ}), "expires_at": ticket.expires_at})

    async def note_opening(self, ticket: Ticket) -> None:
        """Note a ticket's use. Raises ``UnauthorizedError`` where it is the first, and comes too late."""
        now = datetime.now(UTC)
        if ticket.is_fresh(now):
            await self._accounts.note_ticket_opened(ticket.ticket_id, ticket.expires_at, now)
        elif not await self._accounts.was_ticket_opened(ticket.ticket_id):
            raise UnauthorizedError("The stream ticket was not opened within a minute.", action=TICKET_ADVICE)

    def _note_use(self, key_id: str) -> None:
        now = time.monotonic()
        if now < self._noted.get(key_id, 0.0):
            return
        if len(self._noted) >= _MOST:
            self._noted.clear()
        self._noted[key_id] = now + USE_NOTED_SECONDS
        writing = asyncio.create_task(self._write_use(key_id, datetime.now(UTC)), name=f"last use of {key_id}")
        self._writes.add(writing)
        writing.add_done_callback(self._writes.discard)

    async def _write_use(self, key_id: str, at: datetime) -> None:
        try:
            await self._accounts.note_key_used(key_id, at)
        except DependencyError as error:
            log.warning("api_key.use_not_noted", key_id=key_id, reason=error.message)


def _principal_of_key(key: ApiKey) -> Principal:
    return Principal(
        kind=CredentialKind.KEY,
        credential_id=key.key_id,
        tenant_id=key.tenant_id,
        user=key.username or f"{KEY_USER_PREFIX}{key.name}",
        scopes=key.scopes,
    )
