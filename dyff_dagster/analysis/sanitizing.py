"""HTML that neither runs nor fetches anything, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from dyff_dagster.analysis.errors import AnalysisError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SWALLOWED = frozenset(
    (
        "script",
        "style",
        "iframe",
        "object",
        "noscript",
        "template",
        "textarea",
        "title",
        "xmp",
        "noembed",
        "noframes",
    )
)
"""Elements that go with all that is in them; of any other unknown element the text stays."""

_TAGS = _words(
    """
    a abbr b bdi bdo blockquote br caption cite code col colgroup dd del details dfn div dl dt em figcaption
    figure h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q rp rt ruby s samp section small span strong
    sub summary sup table tbody td tfoot th thead time tr tt u ul var wbr svg g path rect circle ellipse
    line polyline polygon text tspan
    """
)

_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))

_EVERYWHERE = frozenset(("class", "id", "style", "title", "lang", "dir", "role"))
_BY_TAG = {
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "td": {"colspan", "rowspan", "align", "valign"},
    "th": {"colspan", "rowspan", "align", "valign", "scope"},
    "col": {"span"},
    "colgroup": {"span"},
    "ol": {"start", "type"},
    "time": {"datetime"},
    "details": {"open"},
}
_SVG_TAGS = frozenset(
    ("svg", "g", "path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "tspan")
)
_SVG = _words(
    """
    viewBox preserveAspectRatio width height x y x1 x2 y1 y2 cx cy r rx ry d points transform fill
    fill-opacity fill-rule stroke stroke-width stroke-opacity stroke-linecap stroke-linejoin
    stroke-dasharray opacity text-anchor font-size font-family font-weight dominant-baseline dx dy
    """
)

_STYLES = _words(
    """
    background-color background border border-bottom border-bottom-color border-collapse border-color
    border-left border-left-color border-radius border-right border-right-color border-spacing border-style
    border-top border-top-color border-width clear color column-gap display flex flex-basis flex-direction
    flex-grow flex-wrap align-items justify-content gap grid-template-columns float font font-family
    font-size font-style font-variant font-variant-numeric font-weight height letter-spacing line-height
    list-style-type margin margin-bottom margin-left margin-right margin-top max-height max-width min-height
    min-width opacity overflow overflow-x overflow-y padding padding-bottom padding-left padding-right
    padding-top text-align text-decoration text-indent text-transform vertical-align white-space width
    word-break
    """
)

_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*")
_LINK = re.compile(r"(?:https?://|mailto:|#)[^\s]*", re.IGNORECASE)
_FETCHING = re.compile(r"url|image|element|src|attr|expression|import|[\\@]", re.IGNORECASE)

DEEPEST = 256
"""Elements within each other that a fragment may have. What a parser does for each takes time with its depth."""


def sanitize(html: str, headings: int | None = None, *, scrolled: bool = False) -> str:
    """The fragment without scripts, styles sheets, frames, forms, event handlers and outside resources.

    Images stay where they are embedded (``data:``). Links to the web stay links: nothing follows them unless
    a person does. Inline styles stay as far as they do not fetch or lay themselves over the page.

    Args:
        html: The fragment.
        headings: Rank of its first headings; the others follow in order, none is left out. None: as they are.

        scrolled: Let the keyboard reach preformatted text, which may be wider than the screen.

    Raises:
        AnalysisError: Its elements are nested more than 256 deep.
    """
    import tinycss2  # type: ignore[import-untyped]
    from bleach.css_sanitizer import CSSSanitizer
    from bleach.html5lib_shim import BleachHTMLParser, Filter
    from bleach.sanitizer import Cleaner

    class DropWithContents(Filter):  # type: ignore[misc]
        """Leaves out whole elements. It walks a tree, so that end tags are where they belong."""

        def __iter__(self) -> Iterator[Any]:
            depth = 0
            for token in super().__iter__():
                swallowed = token.get("name") in _SWALLOWED
                if swallowed and token["type"] == "StartTag":
                    depth += 1
                elif swallowed and token["type"] == "EndTag":
                    depth -= 1
                elif not depth and not swallowed:
                    yield token

    class InOrder(Filter):  # type: ignore[misc]
        """Ranks headings anew, so that who goes from heading to heading finds no gap; and marks what scrolls."""

        def __iter__(self) -> Iterator[Any]:
            open_ranks: list[int] = []
            ranks: list[str] = []
            for token in super().__iter__():
                name = str(token.get("name", ""))
                if headings is not None and name in _HEADINGS:
                    if token["type"] == "StartTag":
                        rank = int(name[1])
                        while open_ranks and open_ranks[-1] >= rank:
                            open_ranks.pop()
                        open_ranks.append(rank)
                        ranks.append(f"h{min(headings + len(open_ranks) - 1, 6)}")
                        token = {**token, "name": ranks[-1]}
                    elif ranks:
                        token = {**token, "name": ranks.pop()}
                elif scrolled and name == "pre" and token["type"] == "StartTag":
                    token = {**token, "data": {**token["data"], (None, "tabindex"): "0"}}
                yield token

    class ShallowParser(BleachHTMLParser):  # type: ignore[misc]
        """Gives up where elements are nested too deep."""

        def reset(self) -> None:
            super().reset()
            self.tree.openElements = _OpenElements(self.tree.openElements)

    class InPlace(CSSSanitizer):  # type: ignore[misc]
        """Leaves out margins that move an element over what is around it."""

        def sanitize_css(self, style: str) -> str:
            declarations = tinycss2.parse_declaration_list(super().sanitize_css(style))
            kept = [item for item in declarations if not _moves(item)]
            return str(tinycss2.serialize(kept)).strip()

    def _moves(item: Any) -> bool:
        # The minus may also be within a calc().
        is_margin = item.type == "declaration" and item.lower_name.startswith("margin")
        return is_margin and "-" in tinycss2.serialize(item.value)

    cleaner = Cleaner(
        # The swallowed ones must be known to the parser, or their text would stay.
        tags=_TAGS | _SWALLOWED,
        attributes=_allowed,
        protocols=("http", "https", "mailto", "data"),
        strip=True,
        strip_comments=True,
        filters=[DropWithContents, InOrder],
        css_sanitizer=InPlace(allowed_css_properties=_STYLES),
    )
    # As Cleaner makes its own.
    cleaner.parser = ShallowParser(
        tags=cleaner.tags, strip=True, consume_entities=False, namespaceHTMLElements=False
    )
    cleaned: str = cleaner.clean(html)
    return cleaned


class _OpenElements(list[Any]):
    """The stack of a parser: the elements that are open where it reads."""

    def append(self, element: Any) -> None:
        if len(self) > DEEPEST:
            raise AnalysisError(
                f"a page cannot show HTML whose elements are nested more than {DEEPEST} deep; write it flatter"
            )
        super().append(element)


def _allowed(tag: str, name: str, value: str) -> bool:
    if name == "style":
        return _FETCHING.search(value) is None
    if name == "tabindex":
        return (
            value == "0"
        )  # reached by the keyboard in its turn; any other number takes its turn from others
    if name == "src":
        return tag == "img" and _IMAGE.fullmatch(value) is not None
    if name == "href":
        return tag == "a" and _LINK.fullmatch(value.strip()) is not None
    if tag in _SVG_TAGS and name in _SVG:
        return _FETCHING.search(value) is None
    return name in _EVERYWHERE or name in _BY_TAG.get(tag, ()) or name.startswith("aria-")


_VOID = frozenset(("br", "col", "hr", "img", "wbr"))


def check_inert(html: str, owner: str) -> None:
    """See that a fragment is what :func:`sanitize` or this package's own templates make, without changing it.

    It is for fragments from a process in which a method's code ran: that code could have written them itself.

    Raises:
        AnalysisError: It has an element or an attribute that a page does not have, or elements that do not close.
    """
    checker = _Inert(owner)
    checker.feed(html)
    checker.close()
    if checker.open:
        raise checker.refused(f"an open <{checker.open[-1]}>")


class _Inert(HTMLParser):
    """Refuses what :func:`sanitize` leaves out."""

    def __init__(self, owner: str) -> None:
        # Text as it stands: there "<" is always written as a reference.
        super().__init__(convert_charrefs=False)
        self.owner = owner
        self.open: list[str] = []

    def refused(self, what: str) -> AnalysisError:
        return AnalysisError(
            f"{self.owner}: its page was written past dyff-dagster, and has {what[:100]!r}, which no page may have; "
            "show what is to be seen through AnalysisContext or in the notebook"
        )

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _TAGS or len(self.open) > 2 * DEEPEST:
            raise self.refused(f"<{tag}>")
        for name, value in attrs:
            if not _allowed(tag, self._cased(name), value or "") or (
                name == "style" and not _keeps_its_place(value)
            ):
                raise self.refused(f"<{tag} {name}>")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # Only within a drawing a slash closes an element.
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            if tag not in _SVG_TAGS:
                raise self.refused(f"<{tag}/>")
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            raise self.refused(f"a stray </{tag}>")

    def handle_data(self, data: str) -> None:
        if "<" in data:  # what a browser may take for a tag or a comment, and this parser does not
            raise self.refused("a stray <")

    def handle_comment(self, data: str) -> None:
        raise self.refused("a comment")

    def handle_decl(self, decl: str) -> None:
        raise self.refused("a declaration")

    def handle_pi(self, data: str) -> None:
        raise self.refused("an instruction")

    def unknown_decl(self, data: str) -> None:
        raise self.refused("a declaration")

    @staticmethod
    def _cased(name: str) -> str:
        return _SVG_CASE.get(name, name)


_SVG_CASE = {name.lower(): name for name in _SVG}
"""Attributes of drawings have capitals, of which a parser of HTML keeps none."""


def _keeps_its_place(style: str | None) -> bool:
    for declaration in (style or "").split(";"):
        name, _, value = declaration.partition(":")
        name = name.strip().lower()
        if name and (name not in _STYLES or (name.startswith("margin") and "-" in value)):
            return False
    return True
