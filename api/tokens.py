"""Access tokens: signed, short-lived, for this service alone."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt

from ingather.models.accounts import User
from ingather.models.errors import UnauthorizedError

ALGORITHM = "HS256"
_CLOCKS_APART = timedelta(seconds=5)
_CLAIMS = ("exp", "iat", "iss", "aud", "sub")


@dataclass(frozen=True, slots=True)
class IssuedToken:
    token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    user_id: str
    issued_at: datetime
    """To the second."""
    expires_at: datetime


class Tokens:
    """Issues and verifies JSON Web Tokens.

    Args:
        secret: signs them; every API process needs the same one.
        issuer: what they must name as ``iss``.
        audience: what they must name as ``aud``.
        lifetime: how long each is accepted.
    """

    def __init__(self, secret: bytes, *, issuer: str, audience: str, lifetime: timedelta) -> None:
        self._secret = secret
        self._issuer = issuer
        self._audience = audience
        self._lifetime = lifetime

    def issue(self, user: User) -> IssuedToken:
        """A token that says who the user is and nothing else: what the user may do is looked up when it is used."""
        now = datetime.now(UTC)
        expires_at = now + self._lifetime
        claims = {
            "sub": user.user_id,
            "iss": self._issuer,
            "aud": self._audience,
            "iat": now,
            "exp": expires_at,
            "jti": secrets.token_hex(8),
        }
        return IssuedToken(jwt.encode(claims, self._secret, algorithm=ALGORITHM), expires_at)

    def verify(self, token: str) -> VerifiedToken:
        """Whose it is. Raises ``UnauthorizedError``."""
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_CLOCKS_APART,
                options={"require": list(_CLAIMS)},
            )
        except jwt.ExpiredSignatureError as error:
            raise UnauthorizedError("The token has expired.", action="Log in again.") from error
        except jwt.InvalidTokenError as error:
            raise UnauthorizedError("The token is not one of this service.") from error
        issued_at, expires_at = (datetime.fromtimestamp(claims[name], UTC) for name in ("iat", "exp"))
        return VerifiedToken(str(claims["sub"]), issued_at, expires_at)
