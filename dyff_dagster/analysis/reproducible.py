"""An executed notebook without what differs from run to run, so that equal results are equal bytes."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

_KERNEL_FILE = re.compile(r"ipykernel_\d+/\d+\.py")
_NO_PATH = frozenset(" \t\r\n\"'<>()")
_ADDRESS = re.compile(r"\b(at|id=) ?0x[0-9a-fA-F]{4,}")
_TEXT_TYPES = ("text/", "application/json", "image/svg+xml")
_ERROR_MARKER = "papermill-error-cell-tag"


def reproducible(notebook: Any, replace: Mapping[str, str]) -> Any:
    """A copy of an executed notebook that depends on its code and its inputs alone.

    Gone are papermill's metadata and markers, execution times, random cell ids (now ``cell-0001`` and so on),
    widget state, the names of the kernel's temporary files and addresses of objects. Neighbouring stream
    outputs are joined, as where they are cut depends on timing. Execution counts stay.

    Args:
        notebook: An nbformat 4 notebook.
        replace: Paths of this run, and what stands for them, such as ``{"/tmp/x81/root": "STORAGE"}``.
    """
    notebook = copy.deepcopy(notebook)
    for name in ("papermill", "widgets"):
        notebook.metadata.pop(name, None)
    if notebook.metadata.get("kernelspec", {}).get("language", "python") == "python":
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
    notebook.cells = [cell for cell in notebook.cells if _ERROR_MARKER not in cell.metadata.get("tags", [])]
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    # The longest first: a path that begins with another must not be left half replaced.
    paths = sorted(replace.items(), key=lambda item: -len(item[0]))
    for number, cell in enumerate(notebook.cells, start=1):
        cell["id"] = f"cell-{number:04d}"
        for name in ("papermill", "execution", "ExecuteTime"):
            cell.metadata.pop(name, None)
        # papermill adds an empty list of tags to every cell.
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if cell.cell_type == "code":
            cell["outputs"] = _joined([_plain(output, paths) for output in cell.outputs])
    return notebook


def _plain(output: Any, paths: list[tuple[str, str]]) -> Any:
    if output.output_type == "stream":
        output["text"] = _text(output.text, paths)
    elif output.output_type == "error":
        output["evalue"] = _text(output.evalue, paths)
        output["traceback"] = [_text(line, paths) for line in output.traceback]
    else:
        output.pop("transient", None)
        for kind, value in output.data.items():
            if isinstance(value, str) and kind.startswith(_TEXT_TYPES):
                # Addresses only where objects print themselves: elsewhere hexadecimal digits may mean something.
                output.data[kind] = _text(value, paths, addresses=kind == "text/plain")
    return output


def _text(text: str, paths: list[tuple[str, str]], addresses: bool = True) -> str:
    for path, stand_in in paths:
        text = text.replace(path, stand_in)
    text = _without_kernel_files(text)
    return _ADDRESS.sub(r"\1 0x…", text) if addresses else text


def _without_kernel_files(text: str) -> str:
    """Paths of the files that a kernel makes of its cells, which warnings show, become ``<cell>``.

    The directory before the name is looked for from the name backwards: a pattern that begins with it takes
    quadratic time on an embedded image.
    """
    parts, last = [], 0
    for match in _KERNEL_FILE.finditer(text):
        start = match.start()
        while start > last and text[start - 1] not in _NO_PATH:
            start -= 1
        parts += [text[last:start], "<cell>"]
        last = match.end()
    return "".join([*parts, text[last:]])


def _joined(outputs: list[Any]) -> list[Any]:
    """Streams that follow each other, as one of each name, in the order of the names' first output."""
    joined: list[Any] = []
    open_streams: dict[str, Any] = {}
    for output in outputs:
        if output.output_type != "stream":
            open_streams = {}
            joined.append(output)
        elif output.name in open_streams:
            open_streams[output.name]["text"] += output.text
        else:
            open_streams[output.name] = output
            joined.append(output)
    # Which of stdout and stderr came first is a matter of timing too.
    start = 0
    while start < len(joined):
        end = start
        while end < len(joined) and joined[end].output_type == "stream":
            end += 1
        joined[start:end] = sorted(joined[start:end], key=lambda output: str(output.name), reverse=True)
        start = max(end, start + 1)
    return joined
