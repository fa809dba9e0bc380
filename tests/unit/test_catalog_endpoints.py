"""Endpoints and headers: what cannot be asked is refused, and no secret is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyff_dagster.catalog import Catalog
from tests.unit.test_catalog_manifests import (
    MODEL,
    SERVICE,
    problems,
    write,
)
from tests.unit.test_catalog_problems import changed


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("http://[::1", "is no URL"),
        ("http://h:99999/", "is no URL"),
        ("http://h:s3cret/", "is no URL"),
        ("http://a..b/", "is a URL without a host that can be"),
        ("http://" + "a" * 64 + "/s3cret", "is a URL without a host that can be"),
        ("https:s3cret", "is a URL without a host that can be"),
        ("http://u:s3cret@h/", "carries a user name or password"),
        ("http://s3cret@h/", "carries a user name or password"),
        ("file:", "must be a path on the session"),
        ("localhost:8000/s3cret", "must be a path on the session"),
        ("gen\\nerate", "has white space or control characters"),
        ("http://h/s3cret\\x7f", "has white space or control characters"),
    ],
)
def test_an_endpoint_that_cannot_be_asked_is_a_problem(tmp_path: Path, endpoint: str, message: str) -> None:
    service = changed(SERVICE, "endpoint: predict", f'endpoint: "{endpoint}"')

    [found] = problems(write(tmp_path, MODEL, service))
    assert found.startswith(f"audit.yaml:16: interface.endpoint: {message}")
    assert "s3cret" not in found


@pytest.mark.parametrize(
    "endpoint",
    [
        "generate",
        "/v1/models/m:predict",
        "http://[::1]:8000/x",
        "https://api.example./v1?x=1",
        "http://bücher.example",
    ],
)
def test_an_endpoint_is_a_path_or_a_url(tmp_path: Path, endpoint: str) -> None:
    service = changed(SERVICE, "endpoint: predict", f'endpoint: "{endpoint}"')

    assert "service" in Catalog.load(write(tmp_path, MODEL, service))


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ('{"X-Key": "s3cret\\nX: y"}', "has control characters in the value of X-Key; write it on one line"),
        (
            '{"X-Key: s3cret": "y"}',
            "has a header's name with characters that no name has; write letters, digits and hyphens",
        ),
        (
            '{"": "s3cret"}',
            "has a header's name with characters that no name has; write letters, digits and hyphens",
        ),
        *(
            (f'{{"{name}": "s3cret"}}', f"sets {name}, which is set for each request; leave it out")
            for name in ("Content-Length", "TRANSFER-ENCODING", "host", "content-type", "Connection")
        ),
    ],
)
def test_headers_that_break_a_request_are_problems(tmp_path: Path, headers: str, message: str) -> None:
    service = SERVICE + f"annotations: {{dyff-dagster/headers: '{headers}'}}\n"

    assert problems(write(tmp_path, MODEL, service)) == [
        f"audit.yaml:18: annotations.dyff-dagster/headers: {message}"
    ]


def test_header_values_never_reach_a_message(tmp_path: Path) -> None:
    for value in ('\'{"a": "sk-secret\'', "[sk-secret]", '\'{"a": ["sk-secret"]}\''):
        write(tmp_path, MODEL, SERVICE + f"annotations: {{dyff-dagster/headers: {value}}}\n")
        assert not any("sk-secret" in problem for problem in problems(tmp_path))
