"""Patterns of paths: ``*`` within a part, ``**`` over any parts, ``{field}`` for a part whose text becomes a field."""

from __future__ import annotations

import re

from dyff_dagster.schema.errors import DyffError

_PIECE = re.compile(r"\*\*/|\*\*|\*|\?|\{([A-Za-z_]\w*)\}|[^*?{]+|\{")


class PatternError(DyffError):
    """A pattern names a field twice."""


class Pattern:
    """A pattern of relative paths, as ``images/{label}/*.png``.

    Attributes:
        fields: Names of the fields that it takes out of a path.
    """

    def __init__(self, text: str) -> None:
        self.fields: list[str] = []
        expression = ""
        for piece in _PIECE.finditer(text):
            token = piece[0]
            if piece[1]:
                if piece[1] in self.fields:
                    raise PatternError(f"the pattern {text!r} has the field {piece[1]} twice")
                self.fields.append(piece[1])
                expression += f"(?P<{piece[1]}>[^/]+)"
            else:
                expression += {"**/": "(?:.+/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(
                    token, re.escape(token)
                )
        self._expression = re.compile(expression)

    def captures(self, path: str) -> dict[str, str] | None:
        """The fields of a path that fits; None for one that does not."""
        match = self._expression.fullmatch(path)
        return None if match is None else match.groupdict()
