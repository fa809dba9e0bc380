"""Is an ``interface.endpoint`` something that can be asked?"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_SPACE = re.compile(r"[\x00-\x20\x7f-\xa0]")
_LABEL = 63  # characters between two dots of a host's name, RFC 1035


def describe_bad_endpoint(endpoint: str) -> str | None:
    """What is wrong with an endpoint, or None; it is never repeated, because it may carry a password.

    Good are a path on the session (``generate``), and a URL of http or https with a host, and without a user
    name or password.
    """
    if _SPACE.search(endpoint):
        return "has white space or control characters; write them as %20 and the like, or leave them out"
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no URL: mend its host or port, as in https://service.example:8000/generate"
    if not parts.scheme:
        return None
    if parts.scheme not in ("http", "https"):
        return (
            "must be a path on the session, as in generate (with a / first where it holds a colon), "
            "or a URL that begins with http:// or https://"
        )
    if "@" in parts.netloc:
        return (
            "carries a user name or password; take them out, and put them into the annotation "
            "dyff-dagster/headers as ${VARIABLE}"
        )
    labels = (host or "").removesuffix(".").split(".")
    if not all(0 < len(label) <= _LABEL for label in labels):
        return "is a URL without a host that can be; write one as in https://service.example/generate"
    return None
