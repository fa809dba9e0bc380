"""Requests that carry a file, sent to a real server that takes forms apart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from aiohttp import web

from dyff_dagster import evaluation
from dyff_dagster.evaluation import EvaluationOptions
from dyff_dagster.schema.platform import DataSchema, Evaluation
from dyff_dagster.sessions import Session, open_session
from dyff_dagster.store import Commit, Inputs, Store

IMAGES = {0: b"\x89PNG\r\n\x1a\n", 1: b"--boundary--\r\n", 2: b""}


@dataclass
class FormServer:
    """Takes forms apart; ``forms`` are those that came, ``url`` is where to post them."""

    url: str = ""
    forms: list[dict[str, Any]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        if request.content_type != "multipart/form-data":
            return web.json_response({"wrong": request.content_type}, status=415)
        form = await request.post()
        file = form["image"]
        assert isinstance(file, web.FileField)
        content = file.file.read()
        self.forms.append(
            {
                "names": list(form),
                "content": content,
                "filename": file.filename,
                "type": file.content_type,
                "caption": form["caption"],
            }
        )
        return web.json_response({"size": len(content)})


@contextmanager
def form_server() -> Iterator[FormServer]:
    server = FormServer()
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_post("/classify", server.answer)
    runner = web.AppRunner(app)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/classify"

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def uploads(url: str) -> Evaluation:
    upload = {
        "kind": "FileUpload",
        "configuration": {
            "field": "$.image",
            "name": "image",
            "filename": {
                "$compute": [{"$scalar": "$.caption"}, {"$func": "sub", "pattern": "$", "repl": ".png"}]
            },
            "contentType": "image/png",
            "formFields": {"caption": "$.caption"},
        },
    }
    schema = pa.schema([pa.field("size", pa.int64(), nullable=False)])
    service = {
        "id": "svc",
        "account": "acme",
        "name": "classifier",
        "interface": {
            "endpoint": url,
            "outputSchema": DataSchema.make_output_schema(schema),
            "inputPipeline": [upload],
        },
    }
    return Evaluation(
        id="eval-1", account="acme", dataset="rows", inferenceSession={"inferenceService": service}
    )


def run(entity: Evaluation, root: Path) -> Commit:
    rows = root / "rows"
    rows.mkdir(exist_ok=True)
    table = [
        {"_index_": index, "image": image, "caption": f'"{index}" ä', "label": "secret"}
        for index, image in IMAGES.items()
    ]
    schema = pa.schema(
        [("_index_", pa.int64()), ("image", pa.binary()), ("caption", pa.string()), ("label", pa.string())]
    )
    pq.write_table(pa.Table.from_pylist(table, schema=schema), rows / "data.parquet")

    def session() -> AbstractContextManager[Session]:
        return open_session(
            entity.inferenceSession.inferenceService,
            session_id=entity.id,
            replicas=1,
            cwd=rows,
            model_path=None,
            directory=root / "sessions",
        )

    store = Store(root / "store")
    with store.lock(entity.id):
        return evaluation.run(
            entity,
            store,
            inputs=Inputs(spec="s"),
            dataset=rows,
            service_digest="service-1",
            session=session,
            withheld=frozenset({"label"}),
            options=EvaluationOptions(attempts=1),
        )


def test_each_row_arrives_as_a_form_with_its_file(tmp_path: Path) -> None:
    with form_server() as server:
        commit = run(uploads(server.url), tmp_path)
    assert sorted(server.forms, key=lambda form: form["caption"]) == [
        {
            "names": ["caption", "image"],
            "content": image,
            "filename": f"%22{index}%22 ä.png",  # as browsers send it; this server leaves it so
            "type": "image/png",
            "caption": f'"{index}" ä',
        }
        for index, image in IMAGES.items()
    ]
    answers = pq.read_table(commit.path / "answers.parquet").to_pylist()
    assert [row["responses"][0]["size"] for row in answers] == [len(image) for image in IMAGES.values()]
    assert commit.facts.sent_fields == ("caption", "image")


def test_files_that_were_answered_are_not_sent_again(tmp_path: Path) -> None:
    with form_server() as server:
        first = run(uploads(server.url), tmp_path)
        again = run(uploads(server.url), tmp_path)
    assert len(server.forms) == len(IMAGES)
    assert again.data_version == first.data_version
