"""README.md and the pages of docs/ as their fenced blocks, so that what they show can be run.

Conventions of the pages, all in HTML comments on the line before a block:

``<!-- catalog NAME; files: A B -->``  the ``yaml`` blocks of a page with the same NAME are one catalog, next to
                                       which the files A and B lie
``<!-- file: NAME -->``                the blocks with the same NAME are a file, in their order
``<!-- notebook: NAME -->``            the blocks with the same NAME are the cells of a notebook
``<!-- refused; files: A -->``         the block is a catalog that is refused; the ``console`` block after it
                                       shows what ``dyff-dagster validate audit.yaml`` prints
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = {page.relative_to(ROOT).as_posix(): page for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(
    r"<!--\s*(?:(?P<kind>catalog |file:|notebook:)\s*(?P<name>[\w./-]+)|(?P<refused>refused))"
    r"(?:;\s*files:(?P<files>[^>]*?))?\s*-->\n$"
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text and the mark before it."""

    page: str
    line: int
    language: str
    text: str
    kind: str | None
    """``catalog``, ``file``, ``notebook`` or ``refused``."""
    name: str | None
    files: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, by its path in the repository."""
    text = PAGES[page].read_text("utf-8")
    found = []
    for match in FENCE.finditer(text):
        mark = _MARK.search(text[: match.start()])
        found.append(
            Block(
                page=page,
                line=text.count("\n", 0, match.start()) + 1,
                language=match[1],
                text=match[2],
                kind=mark and (mark["refused"] or mark["kind"].rstrip(" :")),
                name=mark and mark["name"],
                files=tuple((mark["files"] or "").split()) if mark else (),
            )
        )
    return found


def parts(page: str) -> dict[tuple[str, str], list[Block]]:
    """The blocks of a page that have a name, by kind and name, those that belong together in their order."""
    found: dict[tuple[str, str], list[Block]] = {}
    for block in blocks(page):
        if block.kind is not None and block.name is not None:
            found.setdefault((block.kind, block.name), []).append(block)
    return found


def manifest(catalog: list[Block]) -> str:
    """The blocks of a catalog as one file."""
    return "\n---\n".join(block.text for block in catalog)


def commands(console: Block) -> list[tuple[str, list[str]]]:
    """The commands of a ``console`` block, each with the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for line in console.text.splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif found:
            found[-1][1].append(line)
    return found
