"""Is a comparison of two systems one on the same data set?"""

from __future__ import annotations

from collections.abc import Mapping

from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.schema.platform import Analysis, Evaluation, Measurement

_COMPARISON = "dyff_dagster.analysis.comparison."


def check_comparison(
    entry: Entry, analysis: Analysis, entries: Mapping[str, Entry], findings: Findings
) -> None:
    """Note the inputs of the package's own comparison that are of different data sets.

    Its code sees rows, and rows of any two data sets have the same numbers.
    """
    function = analysis.method.implementation.pythonFunction
    if function is None or not function.fullyQualifiedName.startswith(_COMPARISON):
        return
    seen: dict[str, str] = {}
    for position, item in enumerate(analysis.inputs):
        dataset = _dataset_of(item.keyword, item.entity, entries)
        if dataset is None:
            continue
        seen[item.keyword] = dataset
        other = next(iter(seen))
        if seen[other] != dataset:
            findings.error(
                entry,
                ("inputs", position, "entity"),
                f"'{item.entity}' is about the data set '{dataset}', and the input '{other}' about '{seen[other]}'; "
                "compare two systems on the same data set",
            )
            return


def _dataset_of(keyword: str, entity: str, entries: Mapping[str, Entry]) -> str | None:
    source = entries.get(entity)
    if source is None:
        return None
    if isinstance(source.entity, Evaluation):
        return source.entity.dataset
    if isinstance(source.entity, Measurement):
        return source.entity.scope.dataset
    return entity if keyword == "dataset" else None
