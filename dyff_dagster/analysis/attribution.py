"""Whose the scores of an analysis are, by what they say themselves."""

from __future__ import annotations

import json
from pathlib import Path

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.records import SCORES, read_scores


def check_scores_are_of(directory: Path, analysis_id: str, method: str) -> None:
    """See that the reported scores say of themselves that they are this analysis's, or say nothing.

    Raises:
        AnalysisError: One is said to be of another analysis or method, or the file is not in the form that
            ``analysis.records`` writes.
    """
    if not read_scores(directory):
        return
    for score in json.loads((directory / SCORES).read_text("utf-8"))["scores"]:
        metadata = score.get("metadata")
        refs = metadata.get("refs") if isinstance(metadata, dict) else None
        said = refs.get("method") if isinstance(refs, dict) else None
        for what, named, own in (("analysis", score.get("analysis"), analysis_id), ("method", said, method)):
            if named is not None and named != own:
                raise AnalysisError(
                    f"{analysis_id}: score {score['name']!r} is said to be of another {what}; it must be {own!r}"
                )
