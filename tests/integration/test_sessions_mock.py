from __future__ import annotations

import base64
import urllib.error
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dyff_dagster.schema.adapters import create_pipeline
from dyff_dagster.schema.platform import DataSchema, ForeignInferenceService
from dyff_dagster.sessions import Session, SessionError, open_session
from tests.integration.sessions_support import described, post

RUNNER = {"kind": "mock", "resources": {"storage": "1Gi"}}


@contextmanager
def mock(
    directory: Path, service: ForeignInferenceService | None = None, replicas: int = 1, **fields: Any
) -> Generator[Session, None, None]:
    service = service or described(runner=RUNNER, **fields)
    with open_session(
        service,
        session_id="evaluation",
        replicas=replicas,
        cwd=directory,
        model_path=None,
        directory=directory / "session",
    ) as session:
        yield session


def answering(schema: pa.Schema, **interface: Any) -> ForeignInferenceService:
    output = DataSchema.make_output_schema(schema)
    return described(runner=RUNNER, interface={"outputSchema": output, **interface})


def test_the_same_request_has_the_same_answer(tmp_path: Path) -> None:
    with mock(tmp_path) as session:
        first = post(session.urls[0], {"a": 1, "b": 2})
        again = post(session.urls[0], {"b": 2, "a": 1})
        other = post(session.urls[0], {"a": 1, "b": 3})

    assert list(first) == ["text"]
    assert first == again
    assert first != other


def test_replicas_answer_alike_on_different_ports(tmp_path: Path) -> None:
    with mock(tmp_path, replicas=2) as session:
        answers = [post(url, {"a": 1}) for url in session.urls]
        session.check()

    assert len(set(session.urls)) == 2
    assert answers[0] == answers[1]


def test_a_mock_stops_at_the_end_of_the_block(tmp_path: Path) -> None:
    with mock(tmp_path) as session:
        pass

    with pytest.raises(urllib.error.URLError):
        post(session.urls[0], {})
    with pytest.raises(SessionError, match="stopped"):
        session.check()


def test_what_is_not_json_is_refused(tmp_path: Path) -> None:
    with mock(tmp_path) as session, pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(session.urls[0], data=b"{", timeout=20)


def test_an_answer_has_the_types_of_the_output_schema(tmp_path: Path) -> None:
    schema = pa.schema(
        {
            "flag": pa.bool_(),
            "small": pa.uint8(),
            "share": pa.float16(),
            "raw": pa.binary(),
            "key": pa.binary(16),
            "when": pa.timestamp("ms", "UTC"),
            "pair": pa.list_(pa.int64(), 2),
            "labels": pa.list_(pa.struct({"label": pa.string(), "score": pa.float64()})),
        }
    )

    with mock(tmp_path, answering(schema)) as session:
        answer = post(session.urls[0], {"a": 1})

    assert list(answer) == schema.names
    assert len(base64.b64decode(answer["key"])) == 16
    answer["raw"], answer["key"] = base64.b64decode(answer["raw"]), base64.b64decode(answer["key"])
    answer["when"] = datetime.fromisoformat(answer["when"])
    table = pa.Table.from_pylist([answer], schema=schema)
    assert table.column("labels").to_pylist()[0]
    assert None not in answer.values()


def test_an_answer_passes_a_pipeline_that_reads_plain_paths(tmp_path: Path) -> None:
    pipeline = [
        {
            "kind": "TransformJSON",
            "configuration": {"text": "$.choices[0].message.content", "tokens": "$.usage.total"},
        }
    ]
    schema = pa.schema({"text": pa.string(), "tokens": pa.int64()})

    with mock(tmp_path, answering(schema, outputPipeline=pipeline)) as session:
        answer = post(session.urls[0], {"prompt": "hello"})

    (response,) = create_pipeline(pipeline)([answer])
    assert isinstance(response["text"], str)
    assert isinstance(response["tokens"], int)


def test_before_a_pipeline_an_answer_also_has_the_requests_fields(tmp_path: Path) -> None:
    pipeline = [{"kind": "Select", "configuration": {"fields": ["prompt", "text"]}}]

    with mock(tmp_path, answering(pa.schema({"text": pa.string()}), outputPipeline=pipeline)) as session:
        answer = post(session.urls[0], {"prompt": "hello"})

    (response,) = create_pipeline(pipeline)([answer])
    assert response["prompt"] == "hello"
    assert response["text"] == answer["text"]


@pytest.mark.parametrize("endpoint", ["generate", "/generate", "v1/chat/completions"])
def test_an_endpoint_is_a_path_on_the_session(tmp_path: Path, endpoint: str) -> None:
    with mock(tmp_path, interface={"endpoint": endpoint}) as session:
        assert session.urls[0].endswith("/" + endpoint.lstrip("/"))
        assert "//" not in session.urls[0].removeprefix("http://")
        post(session.urls[0], {})


def test_an_exception_in_the_block_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(KeyError), mock(tmp_path):
        raise KeyError
