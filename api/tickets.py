"""Stream tickets: what a browser's ``EventSource``, which can send no header, presents as ``?sig=``.

A ticket is signed, names one tenant and one stream, and stands for the key or user it was made with: it opens no other
stream, reads and nothing else, and ends with that key or user. It has to be opened within a minute. A ticket that was
opens the same stream again, so that a browser that lost its connection comes back by itself, until it expires.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt

from ingather.models.accounts import CredentialKind, Principal
from ingather.models.errors import UnauthorizedError

PARAMETER = "sig"
OPENED_WITHIN = timedelta(seconds=60)
"""From the making of a ticket to its first use."""
ADVICE = "Ask for another with POST /v1/stream-tickets, and open the stream within a minute."

_ALGORITHM = "HS256"
_CLOCKS_APART = timedelta(seconds=5)
_CLAIMS = ("exp", "iat", "iss", "aud", "sub", "jti", "tenant", "stream", "kind")


def stream_of_batch(batch_id: str) -> str:
    """The name under which tickets know a batch's events, in whichever contract's words they are told."""
    return f"batch/{batch_id}"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket says."""

    ticket_id: str
    tenant_id: str
    """In which the stream is looked for."""
    stream: str
    kind: CredentialKind
    credential_id: str
    """Key or user it was made with; empty for nobody, in an open deployment."""
    issued_at: datetime
    expires_at: datetime

    @property
    def open_before(self) -> datetime:
        """Its first use must come before this."""
        return self.issued_at + OPENED_WITHIN

    def is_fresh(self, now: datetime) -> bool:
        """Whether it may be opened for the first time."""
        return now < self.open_before


class StreamTickets:
    """Issues and verifies them.

    Args:
        secret: signs them, as it signs access tokens; every API process needs the same one.
        issuer: what they must name as ``iss``.
        audience: of access tokens; that of tickets is another, so that none is taken for the other.
        lifetime: how long one that was opened opens its stream again.
    """

    def __init__(self, secret: bytes, *, issuer: str, audience: str, lifetime: timedelta) -> None:
        self._secret = secret
        self._issuer = issuer
        self._audience = f"{audience}/streams"
        self._lifetime = lifetime

    def issue(
        self, tenant_id: str, stream: str, principal: Principal, now: datetime | None = None
    ) -> tuple[Ticket, str]:
        """A ticket, and how it is written. It ends with the access token it was made with, where that is earlier."""
        issued_at = (now or datetime.now(UTC)).replace(microsecond=0)
        expires_at = issued_at + self._lifetime
        if principal.expires_at is not None:
            expires_at = min(expires_at, principal.expires_at)
        ticket = Ticket(
            ticket_id=secrets.token_hex(16),
            tenant_id=tenant_id,
            stream=stream,
            kind=principal.kind,
            credential_id=principal.credential_id,
            issued_at=issued_at,
            expires_at=expires_at,
        )
        claims = {
            "jti": ticket.ticket_id,
            "iss": self._issuer,
            "aud": self._audience,
            "iat": issued_at,
            "exp": expires_at,
            "sub": ticket.credential_id,
            "kind": ticket.kind.value,
            "tenant": tenant_id,
            "stream": stream,
        }
        return ticket, jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def verify(self, text: str) -> Ticket:
        """What it says. Raises ``UnauthorizedError``."""
        try:
            claims = jwt.decode(
                text,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_CLOCKS_APART,
                options={"require": list(_CLAIMS)},
            )
        except jwt.ExpiredSignatureError as error:
            raise UnauthorizedError("The stream ticket has expired.", action=ADVICE) from error
        except jwt.InvalidTokenError as error:
            raise UnauthorizedError("The stream ticket is not one of this service.", action=ADVICE) from error
        return Ticket(
            ticket_id=claims["jti"],
            tenant_id=claims["tenant"],
            stream=claims["stream"],
            kind=CredentialKind(claims["kind"]),
            credential_id=claims["sub"],
            issued_at=datetime.fromtimestamp(claims["iat"], UTC),
            expires_at=datetime.fromtimestamp(claims["exp"], UTC),
        )
