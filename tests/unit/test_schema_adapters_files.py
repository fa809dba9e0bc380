"""FileUpload: requests that carry a file."""

from __future__ import annotations

import base64
import email.parser
import email.policy
import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyff_dagster.evaluation.errors import EvaluationError
from dyff_dagster.evaluation.requests import RequestBuilder
from dyff_dagster.schema.adapters import (
    AdapterConfigurationError,
    AdapterError,
    Multipart,
    check_pipeline,
    create_adapter,
    create_pipeline,
)
from dyff_dagster.schema.platform import SchemaAdapter

SECRET = "patient 4711"
ROW = {
    "_index_": 7,
    "model": "m-1",
    "image": {"data": "aGVsbG8=", "mediaType": "image/png"},
    "n": 2,
    "t": "ä",
}


def upload(row: dict[str, Any], **configuration: Any) -> Multipart:
    (made,) = create_adapter({"kind": "FileUpload", "configuration": configuration})([row])
    assert isinstance(made, Multipart)
    return made


def parse(body: bytes, content_type: str) -> list[tuple[dict[str, str], bytes]]:
    """Parts of a body, as the standard library reads them."""
    text = f"Content-Type: {content_type}\r\n\r\n".encode() + body
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(text)
    parts = []
    for part in message.iter_parts():
        about = dict(part["content-disposition"].params)
        about["type"] = part.get("content-type", "")
        parts.append((about, part.get_payload(decode=True)))
    return parts


def test_file_and_fields_are_taken_from_the_row_and_nothing_else() -> None:
    request = upload(
        ROW,
        field="$.image.data",
        name="upload",
        filename={"$compute": [{"$scalar": "$.model"}, {"$func": "sub", "pattern": "$", "repl": ".png"}]},
        contentType="$.image.mediaType",
        formFields={"model": "$.model", "n": "$.n", "sure": True, "$$price": "$$5"},
    )
    assert request == Multipart(
        name="upload",
        filename="m-1.png",
        content_type="image/png",
        content=b"hello",
        fields=(("model", "m-1"), ("n", "2"), ("sure", "True"), ("$price", "$5")),
    )


def test_only_the_field_need_be_said() -> None:
    request = upload(ROW, field="$.image.data")
    assert request == Multipart("file", "file", "application/octet-stream", b"hello")


@pytest.mark.parametrize(
    ("encoding", "value", "expected"),
    [
        ("base64", "aGVs\r\n bG8=", b"hello"),
        ("base64", b"hello", b"hello"),
        ("binary", b"hello", b"hello"),
        ("utf-8", "hällo", "hällo".encode()),
        ("json", {"a": [1, None, "ä"]}, b'{"a": [1, null, "\\u00e4"]}'),
    ],
)
def test_encoding_says_how_the_file_stands_in_the_row(encoding: str, value: Any, expected: bytes) -> None:
    assert upload({"x": value}, field="$.x", encoding=encoding).content == expected


@pytest.mark.parametrize(
    ("configuration", "row", "problem"),
    [
        ({"field": "$.x"}, {"y": SECRET}, "field $.x finds nothing, and must find exactly one"),
        (
            {"field": "$.x[*]"},
            {"x": [SECRET, SECRET]},
            "field $.x[*] finds 2 values, and must find exactly one",
        ),
        ({"field": "$.x"}, {"x": SECRET}, "field $.x is no base64"),
        (
            {"field": "$.x", "encoding": "binary"},
            {"x": SECRET},
            "field $.x is a string, not bytes; in an evaluation binary fields are base64: take encoding base64",
        ),
        (
            {"field": "$.x", "encoding": "utf-8"},
            {"x": b"patient 4711"},
            "field $.x is bytes, not a string, as encoding utf-8 needs",
        ),
        ({"field": "$.x"}, {"x": None}, "field $.x is null, not a string, as encoding base64 needs"),
        ({"field": "$.x", "encoding": "utf-8"}, {"x": "\ud800"}, "field $.x holds half of a surrogate pair"),
        ({"field": "$.x", "encoding": "json"}, {"x": float("nan")}, "field $.x holds what JSON cannot say"),
        ({"field": "$.x", "filename": "$.y"}, {"x": "", "y": 4711}, "filename is a number, not a string"),
        (
            {"field": "$.x", "filename": "$.y"},
            {"x": "", "z": SECRET},
            "filename cannot be filled: the query $.y",
        ),
        (
            {"field": "$.x", "filename": "$.y"},
            {"x": "", "y": "\ud800"},
            "filename holds half of a surrogate pair",
        ),
        ({"field": "$.x", "contentType": "$.y"}, {"x": "", "y": SECRET}, "contentType is no media type"),
        (
            {"field": "$.x", "contentType": "$.y"},
            {"x": "", "y": "image/png\r\nX-Evil: 1"},
            "contentType is no media type, as image/png is one",
        ),
        (
            {"field": "$.x", "formFields": {"f": "$.y"}},
            {"x": "", "y": [SECRET]},
            "formFields.f is an array; a form has strings and numbers",
        ),
        ({"field": "$.x", "formFields": {"f": None}}, {"x": ""}, "formFields.f is null"),
    ],
)
def test_row_that_cannot_be_sent_is_named_without_its_content(
    configuration: dict[str, Any], row: dict[str, Any], problem: str
) -> None:
    with pytest.raises(AdapterError) as caught:
        upload({**row, "_index_": 3}, **configuration)
    assert str(caught.value).startswith(f"adapter FileUpload failed on the row with _index_ 3: {problem}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("configuration", "problem"),
    [
        ({}, "at field: the setting is missing"),
        ({"field": 1}, "at field: it must be a JSONPath query, not a number"),
        ({"field": "$.["}, "is no JSONPath query"),
        (
            {"field": "$.x", "encoding": "base46"},
            "at encoding: there is no such encoding; did you mean 'base64'?",
        ),
        ({"field": "$.x", "name": 1}, "at name: it must be a string, not a number"),
        ({"field": "$.x", "fileName": "a"}, "did you mean 'filename'?"),
        ({"field": "$.x", "formFields": [1]}, "at formFields: it must be an object, not an array"),
        ({"field": "$.x", "formFields": {"$a": 1}}, "write '$$a'"),
        ({"field": "$.x", "filename": "$.["}, "at filename: '$.[' is no JSONPath query"),
    ],
)
def test_configuration_that_cannot_work_is_refused(configuration: dict[str, Any], problem: str) -> None:
    with pytest.raises(AdapterConfigurationError) as caught:
        create_adapter({"kind": "FileUpload", "configuration": configuration})
    assert problem in str(caught.value)


UPLOAD = {"kind": "FileUpload", "configuration": {"field": "$.x"}}
DROP = {"kind": "Drop", "configuration": {"fields": ["y"]}}


def nested(*adapters: Any) -> dict[str, Any]:
    return {"kind": "Pipeline", "configuration": {"adapters": list(adapters)}}


@pytest.mark.parametrize("pipeline", [[UPLOAD], [DROP, UPLOAD], [DROP, nested(DROP, UPLOAD)]])
def test_file_upload_may_be_the_last_of_an_input_pipeline(pipeline: list[Any]) -> None:
    assert check_pipeline(pipeline, "inputPipeline") == []
    assert list(create_pipeline(pipeline)([{"x": "aGk="}])) == [
        Multipart("file", "file", "application/octet-stream", b"hi")
    ]


@pytest.mark.parametrize("pipeline", [[UPLOAD, DROP], [nested(UPLOAD), DROP], [UPLOAD, UPLOAD]])
def test_file_upload_before_another_adapter_is_refused(pipeline: list[Any]) -> None:
    problem = "FileUpload makes a request, which no adapter can take further; it must be the last one"
    with pytest.raises(AdapterConfigurationError, match=problem):
        create_pipeline(pipeline)
    ((position, error),) = check_pipeline(pipeline, "inputPipeline")
    assert position == 0
    assert str(error) == f"the configuration of adapter FileUpload is wrong: {problem}"


def test_file_upload_within_map_is_refused() -> None:
    with pytest.raises(AdapterConfigurationError, match="it cannot be applied to the elements of arrays"):
        create_adapter({"kind": "Map", "configuration": {"collections": ["a"], "adapter": UPLOAD}})


@pytest.mark.parametrize("side", ["outputPipeline", "adapterPipeline"])
def test_file_upload_is_refused_where_nothing_is_sent(side: Any) -> None:
    ((position, error),) = check_pipeline([DROP, UPLOAD], side)
    assert position == 1
    assert str(error) == (
        "the configuration of adapter FileUpload is wrong: it makes requests, and can only be the last adapter "
        f"of an inputPipeline, not in {side}"
    )


def test_check_finds_everything_that_is_wrong_with_a_pipeline() -> None:
    pipeline = [UPLOAD, {"kind": "Slect"}, SchemaAdapter(kind="Drop", configuration={"field": ["a"]})]
    found = check_pipeline(pipeline, "inputPipeline")
    assert [position for position, _ in found] == [0, 1, 2]
    assert "did you mean 'Select'" in str(found[1][1])


FORM = Multipart("file", 'a "b"\r\nc.png', "image/png", b"\r\n--x\r\n\x00", (("one", "1"), ("zwei", "ä\n")))


def test_form_is_read_by_others_as_it_was_meant() -> None:
    parts = parse(FORM.encode(), FORM.request_type())
    assert [about["name"] for about, _ in parts] == ["one", "zwei", "file"]
    assert [content for _, content in parts] == [b"1", "ä\n".encode(), FORM.content]
    about, _ = parts[-1]
    assert about["filename"] == "a %22b%22%0D%0Ac.png"
    assert about["type"] == "image/png"


def test_equal_forms_have_equal_bodies_and_different_ones_different_digests() -> None:
    assert replace(FORM).encode() == FORM.encode()
    others = [
        replace(FORM, name="f"),
        replace(FORM, filename="f"),
        replace(FORM, content_type="image/gif"),
        replace(FORM, content=b""),
        replace(FORM, fields=()),
        replace(FORM, fields=FORM.fields[::-1]),
    ]
    assert len({form.canonical() for form in (FORM, *others)}) == 7
    assert len({form.encode() for form in (FORM, *others)}) == 7


def test_boundary_is_never_within_the_file() -> None:
    class Unlucky(Multipart):
        """Has its own first boundary in a field, which the seed does not show."""

        def canonical(self) -> bytes:
            return b"always the same"

    first = Unlucky("f", "f", "a/b", b"").boundary()
    unlucky = Unlucky("f", "f", "a/b", first.encode())
    assert unlucky.boundary() != first
    assert parse(unlucky.encode(), unlucky.request_type())[0][1] == first.encode()


@given(st.binary(max_size=60), st.text(st.characters(codec="utf-8"), max_size=8))
def test_any_file_arrives_as_it_was(content: bytes, text: str) -> None:
    form = Multipart("file", text, "a/b", content, ((text, "1"),))
    assert parse(form.encode(), form.request_type())[-1][1] == content


def test_request_of_an_evaluation_is_the_form() -> None:
    pipeline = [
        SchemaAdapter(kind="FileUpload", configuration={"field": "$.image", "formFields": {"t": "$.text"}})
    ]
    builder = RequestBuilder(pipeline, withheld=["label"])
    assert builder.columns(["_index_", "image", "text", "label"]) == ["_index_", "image", "text"]
    row = {"_index_": 3, "image": b"\x89PNG", "text": "hi"}
    request = builder.request(dict(row))
    again = RequestBuilder(pipeline, withheld=["label"]).request(dict(row))
    assert request == again
    assert request.digest == hashlib.sha256(request.body).digest()
    assert request.content_type.startswith("multipart/form-data; boundary=")
    (field, text), (file, content) = parse(request.body, request.content_type)
    assert (field["name"], text, file["name"], content) == ("t", b"hi", "file", b"\x89PNG")
    assert builder.sent_fields == {"t", "file"}


def test_request_without_a_file_is_json() -> None:
    request = RequestBuilder(None).request({"_index_": 3, "image": b"hi"})
    assert request.content_type == "application/json"
    assert base64.b64encode(b"hi") in request.body


def test_row_that_has_no_file_fails_by_its_index() -> None:
    pipeline = [SchemaAdapter(kind="FileUpload", configuration={"field": "$.image"})]
    with pytest.raises(
        EvaluationError, match=r"row 3: adapter FileUpload failed .*field \$\.image is no base64"
    ):
        RequestBuilder(pipeline).request({"_index_": 3, "image": SECRET})
