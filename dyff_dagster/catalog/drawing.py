"""The graph of a catalog drawn: as a tree, for Mermaid, for Graphviz, and as JSON.

The edges are :meth:`Catalog.upstream`'s: from what an entity is made from to the entity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.tree import Tree

    from dyff_dagster.catalog.catalog import Catalog

_INDENT = 4  # columns that a level of the tree is moved to the right by

_DATA, _SERVICE, _ASKED, _CODE, _RESULT, _OTHER = "data", "service", "asked", "code", "result", "other"
_GROUPS = {
    "DataSource": _DATA,
    "Dataset": _DATA,
    "Model": _SERVICE,
    "InferenceService": _SERVICE,
    "InferenceSession": _SERVICE,
    "Evaluation": _ASKED,
    "Module": _CODE,
    "Method": _CODE,
    "Measurement": _RESULT,
    "SafetyCase": _RESULT,
    "Report": _RESULT,
    "Audit": _RESULT,
}
_ON_A_TERMINAL = {
    _DATA: "cyan",
    _SERVICE: "magenta",
    _ASKED: "yellow",
    _CODE: "blue",
    _RESULT: "green",
    _OTHER: "white",
}
# Fill and line; text is black on all of them, so that a dark page shows the same as a light one.
_ON_A_PAGE = {
    _DATA: ("#d5eef7", "#2b7a99"),
    _SERVICE: ("#eedcf5", "#80459b"),
    _ASKED: ("#fbf0c9", "#94751a"),
    _CODE: ("#dbe3fa", "#3f5fae"),
    _RESULT: ("#d9f2dc", "#35803f"),
    _OTHER: ("#ececec", "#666666"),
}


@dataclass(frozen=True)
class Drawing:
    """What of a catalog is drawn, and from where.

    ``roots`` are the ids that a tree begins with, ``entities`` all that are drawn, in the catalog's order.
    ``downstream``: a tree goes on to what is made from an entity, not to what it is made from.
    """

    catalog: Catalog
    roots: tuple[str, ...]
    entities: tuple[str, ...]
    downstream: bool = False

    def children(self, entity_id: str) -> tuple[str, ...]:
        """What stands below an entity in a tree."""
        step = self.catalog.downstream if self.downstream else self.catalog.upstream
        return step(entity_id)

    def edges(self) -> Iterator[tuple[str, str]]:
        """Every drawn edge, from what an entity is made from to the entity.

        Between drawn entities only. Where a part of the catalog is drawn, edges between two entities that
        both belong to it are drawn too, also those that no walk from the roots takes.
        """
        drawn = set(self.entities)
        for entity_id in self.entities:
            for source in self.catalog.upstream(entity_id):
                if source in drawn:
                    yield source, entity_id


def select(catalog: Catalog, entity_ids: Sequence[str] = (), *, downstream: bool = False) -> Drawing:
    """Choose what is drawn.

    :param entity_ids: where to begin: these, and all that they are made from (with ``downstream``: all that
        is made from them). None: the whole catalog, beginning with what nothing else is made from (with
        ``downstream``: with what is made from nothing else).
    :raises EntityNotFound: the catalog has no such entity; the text names the id most like it.
    """
    step = catalog.downstream if downstream else catalog.upstream
    if not entity_ids:
        back = catalog.upstream if downstream else catalog.downstream
        roots = tuple(entity_id for entity_id in catalog.entities if not back(entity_id))
        return Drawing(catalog, roots, tuple(catalog.entities), downstream)
    roots = tuple(dict.fromkeys(entity_ids))
    drawn: set[str] = set()
    waiting = list(roots)
    while waiting:
        entity_id = waiting.pop()
        children = step(entity_id)  # also says that there is no such entity
        if entity_id not in drawn:
            drawn.add(entity_id)
            waiting.extend(children)
    return Drawing(catalog, roots, tuple(item for item in catalog.entities if item in drawn), downstream)


class _Line(NamedTuple):
    """One line of a tree: an entity, its depth from 0, and whether an earlier line has what is below it."""

    entity_id: str
    depth: int
    again: bool


def _lines(drawing: Drawing) -> Iterator[_Line]:
    """The lines of a tree from top to bottom; no recursion, because chains may be hundreds long."""
    shown: set[str] = set()
    waiting = [(entity_id, 0) for entity_id in reversed(drawing.roots)]
    while waiting:
        entity_id, depth = waiting.pop()
        again = entity_id in shown
        yield _Line(entity_id, depth, again)
        if not again:
            shown.add(entity_id)
            waiting.extend((child, depth + 1) for child in reversed(drawing.children(entity_id)))


def tree(drawing: Drawing) -> tuple[Tree, int]:
    """A tree for a rich console, and how many columns it needs.

    An entity that was shown further up is marked so, and what is below it is not drawn a second time.
    """
    from rich.text import Text
    from rich.tree import Tree

    top = Tree("", hide_root=True, guide_style="dim")
    path: list[Tree] = [top]
    width = 1
    for line in _lines(drawing):
        kind = drawing.catalog.entities[line.entity_id].kind
        label = Text(line.entity_id, style="bold" if not line.again else "")
        label.append(f"  {kind}", style=f"not bold {_ON_A_TERMINAL[_GROUPS.get(kind, _OTHER)]}")
        if line.again:
            label.append("  (shown above)", style="dim")
        label.no_wrap = True
        width = max(width, line.depth * _INDENT + len(label))
        del path[line.depth + 1 :]
        path.append(path[-1].add(label))
    return top, width


def mermaid(drawing: Drawing) -> str:
    """A Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html), as GitHub draws it.

    Nodes have numbers for names, because some ids mean something to Mermaid (``end``). Kinds are classes.
    """
    names = {entity_id: f"n{number}" for number, entity_id in enumerate(drawing.entities)}
    lines = ["flowchart LR"]
    for entity_id, name in names.items():
        kind = drawing.catalog.entities[entity_id].kind
        lines.append(f'    {name}["{_for_mermaid(entity_id)}<br/>{kind}"]:::{kind}')
    lines += [f"    {names[source]} --> {names[target]}" for source, target in drawing.edges()]
    for drawn in _kinds(drawing):
        fill, line = _ON_A_PAGE[_GROUPS.get(drawn, _OTHER)]
        lines.append(f"    classDef {drawn} fill:{fill},stroke:{line},color:#000000")
    return "\n".join(lines) + "\n"


def dot(drawing: Drawing) -> str:
    """A directed graph in the DOT language of Graphviz (https://graphviz.org/doc/info/lang.html)."""
    lines = [
        "digraph catalog {",
        "    rankdir=LR;",
        '    node [shape=box, style="rounded,filled", fontname="sans-serif"];',
    ]
    for entity_id in drawing.entities:
        kind = drawing.catalog.entities[entity_id].kind
        fill, line = _ON_A_PAGE[_GROUPS.get(kind, _OTHER)]
        text = _for_dot(entity_id)
        lines.append(f'    "{text}" [label="{text}\\n{kind}", fillcolor="{fill}", color="{line}"];')
    lines += [f'    "{_for_dot(source)}" -> "{_for_dot(target)}";' for source, target in drawing.edges()]
    return "\n".join([*lines, "}"]) + "\n"


def as_json(drawing: Drawing) -> dict[str, Any]:
    """``{"entities": [{"id", "kind", "name", "account"}], "edges": [{"from", "to"}]}``.

    Entities in the catalog's order; ``name`` is None where the kind has none. An edge goes from what an
    entity is made from to the entity.
    """
    entities = []
    for entity_id in drawing.entities:
        entity = drawing.catalog.entities[entity_id]
        name = getattr(entity, "name", None)
        entities.append({"id": entity_id, "kind": entity.kind, "name": name, "account": entity.account})
    return {
        "entities": entities,
        "edges": [{"from": source, "to": target} for source, target in drawing.edges()],
    }


def _kinds(drawing: Drawing) -> Iterable[str]:
    return sorted({drawing.catalog.entities[entity_id].kind for entity_id in drawing.entities})


def _for_mermaid(text: str) -> str:
    """Text inside ``["…"]``: whatever Mermaid or HTML could read as something else becomes an entity code."""
    return "".join(
        character if character.isalnum() or character in " .-_" else f"#{ord(character)};"
        for character in text
    )


def _for_dot(text: str) -> str:
    """Text inside a quoted string of DOT, where a backslash begins an escape."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
