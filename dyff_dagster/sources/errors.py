"""What can go wrong with bytes from outside."""

from __future__ import annotations

from dyff_dagster.schema.errors import DyffError


class SourceError(DyffError):
    """A source is missing, unreadable, or not what its manifest says.

    Attributes:
        reason: The platform's word for it: ``FetchFailed``, ``IngestFailed``, ``DataSourceMissing``.
    """

    def __init__(self, message: str, reason: str = "FetchFailed") -> None:
        self.reason = reason
        super().__init__(message)


class IngestError(SourceError):
    """A data set's rows are not what its schema says."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "IngestFailed")
