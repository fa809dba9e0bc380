"""Run by the reference's own Python, either version: what its adapters make of rows.

A line of standard input is ``{"kind": …, "configuration": …, "rows": […]}``; the answer is ``{"made": […]}``, or
``{"raised": CLASS}`` where the adapter could not be made or raised. Bytes stand as ``{"$bytes": BASE64}``.
"""

import base64
import json
import sys
import warnings

warnings.simplefilter("ignore")

from dyff.schema.v0.r1 import adapters  # noqa: E402


def adapter_of(spec):
    if spec["kind"] == "EmbedIndex":  # a class there, and no kind
        return adapters.EmbedIndex(spec["configuration"])
    return adapters.create_pipeline([spec])


def checked(made):
    upload = getattr(adapters, "as_file_upload", None)
    if upload is not None:
        upload(made)  # what its client does before it sends a form
    return made


def plain(value):
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    raise TypeError(type(value).__name__)


for line in sys.stdin:
    request = json.loads(line)
    rows = request.pop("rows")
    try:
        made = [checked(one) for one in adapter_of(request)(rows)]
        answer = json.dumps({"made": made}, default=plain)
    except Exception as error:
        answer = json.dumps({"raised": type(error).__name__})
    print(answer, flush=True)
