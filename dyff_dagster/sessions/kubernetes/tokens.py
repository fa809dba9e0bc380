"""The token of a session: what its clients must send, and what a service that checks tokens is started with."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Callable, Mapping

INSTANCE_KEY = "DYFF_INSTANCE_KEY"


def token_maker(name: str, environment: Mapping[str, str] = os.environ) -> tuple[Callable[[str], str], bool]:
    """What makes the token of a session out of its Job's uid, and whether other processes come to the same one.

    With an instance key it is an HMAC, so that whoever has the key needs to read no Secret. Without one it is
    random, and lives in this process alone.

    Args:
        name: Of the session.
        environment: Where DYFF_INSTANCE_KEY is.
    """
    key = environment.get(INSTANCE_KEY)
    if not key:
        own = secrets.token_urlsafe(32)
        return (lambda _: own), False
    return (lambda uid: hmac.new(key.encode(), f"{name}/{uid}".encode(), "sha256").hexdigest()), True


def with_token(headers: Mapping[str, str], token: str | None) -> dict[str, str]:
    """The headers with the session's token as bearer, unless the author sends an authorization of its own."""
    if token is None or any(name.lower() == "authorization" for name in headers):
        return dict(headers)
    return {**headers, "Authorization": f"Bearer {token}"}
