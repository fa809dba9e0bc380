"""Services that run elsewhere, where nobody has to start them, and the headers that open them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from dyff_dagster.schema.platform import InferenceServiceSpec
from dyff_dagster.schema.variables import VARIABLE
from dyff_dagster.sessions.errors import SessionError


def is_absolute(endpoint: str) -> bool:
    """Whether an endpoint is a URL of its own, and not a path on a session."""
    return urlsplit(endpoint).scheme in ("http", "https")


def endpoint_url(base: str, endpoint: str) -> str:
    """The URL of a service's endpoint on a replica: ``generate`` and ``/generate`` mean the same.

    :param base: scheme, host and port, possibly a path, with or without a slash at its end.
    """
    return f"{base.rstrip('/')}/{endpoint.lstrip('/')}"


def hosted_url(service: InferenceServiceSpec, session_id: str) -> str:
    """The URL of a service that has no runner.

    :raises SessionError: when its endpoint is no absolute URL, or one that carries a password.
    """
    endpoint = service.interface.endpoint
    if not is_absolute(endpoint):
        raise SessionError(
            f"{session_id}: service '{service.name}' has no runner, so its interface.endpoint must be the "
            "http(s) URL at which it is hosted; give it that, or a runner",
            session_id=session_id,
        )
    parts = urlsplit(endpoint)
    if not parts.hostname:
        raise SessionError(
            f"{session_id}: the interface.endpoint of service '{service.name}' is a URL without a host",
            session_id=session_id,
        )
    if parts.username is not None or parts.password is not None:
        raise SessionError(
            f"{session_id}: the interface.endpoint of service '{service.name}' carries a user name or "
            "password; put them into its annotation dyff-dagster/headers as ${VARIABLE}",
            session_id=session_id,
        )
    return endpoint


def parse_headers(text: str, session_id: str = "") -> dict[str, str]:
    """Read the annotation ``dyff-dagster/headers``: a JSON object of strings, variables not yet resolved.

    :raises SessionError: when it is something else; the message holds no value.
    """
    try:
        headers = json.loads(text)
    except ValueError:
        headers = None
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise SessionError(
            f"{session_id or 'dyff-dagster/headers'}: the annotation dyff-dagster/headers must be a JSON "
            'object of texts, such as {"Authorization": "Bearer ${API_KEY}"}',
            session_id=session_id,
        )
    return headers


def resolve_headers(headers: Mapping[str, str], session_id: str = "") -> dict[str, str]:
    """Put the values of environment variables in the place of ``${VARIABLE}``.

    :raises SessionError: when a variable is not set, or holds what no header may; it names the variable and
        never a value.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        value = os.environ.get(name)
        if not value:
            problem = "is not set" if value is None else "is empty"
        elif any(ord(character) < 32 or ord(character) == 127 for character in value):
            problem = "holds a line break or another control character"
        else:
            return value
        raise SessionError(
            f"{session_id or 'dyff-dagster/headers'}: the environment variable {name}, which the annotation "
            f"dyff-dagster/headers names, {problem}; set it where this runs",
            session_id=session_id,
        )

    return {name: VARIABLE.sub(value_of, value) for name, value in headers.items()}
