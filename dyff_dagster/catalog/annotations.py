"""This project's annotations: on which kinds each may stand, and what its value must look like."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from dyff_dagster.catalog.cron import describe_bad_cron
from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.catalog.ingest import IngestFault, parse_ingest
from dyff_dagster.catalog.problems import Location, suggestion
from dyff_dagster.catalog.thresholds import ThresholdError, parse_checks
from dyff_dagster.schema.annotations import PREFIX, is_reserved
from dyff_dagster.schema.answer_rules import parse_answer_rules
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import Dataset, Evaluation, Model, ModelSourceKinds
from dyff_dagster.schema.prices import parse_prices
from dyff_dagster.schema.priorities import HIGHEST, PRIORITY, is_priority
from dyff_dagster.schema.resources import QuantityError, quantity_value
from dyff_dagster.store.revisions import RECORDED

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OWN_HEADERS = frozenset({"connection", "content-length", "content-type", "host", "transfer-encoding"})
_CLASS = re.compile(r"[a-z][a-z0-9-]{0,62}")
_STATUS = re.compile(r"status-[3-9][0-9]{2}")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")

Checker = Callable[[str], str | None]
"""Takes an annotation's value and says what is wrong with it, without repeating it; None: nothing."""


class _Rule(NamedTuple):
    kinds: tuple[str, ...] | None  # None: any kind
    check: Checker | None


def _automation(value: str) -> str | None:
    if value in ("manual", "eager"):
        return None
    if len(value.split()) == 1:
        return "must be manual, eager or a cron line of five fields, as in '0 6 * * 1'"
    wrong = describe_bad_cron(value)
    return None if wrong is None else f"{wrong}; write manual, eager or a line as in '0 6 * * 1'"


def _checks(value: str) -> str | None:
    try:
        parse_checks(value)
    except ThresholdError as error:
        return str(error)
    return None


def _one_of(*words: str) -> Checker:
    return lambda value: None if value in words else f"must be {' or '.join(words)}"


def _nonempty(value: str) -> str | None:
    return None if value.strip() else "is empty"


def _count_or_fraction(value: str) -> str | None:
    if re.fullmatch(r"[0-9]+", value):
        return None
    if _NUMBER.fullmatch(value) and 0 <= float(value) < 1:
        return None
    return "must be a count of rows, as 5, or a fraction of them between 0 and 1, as 0.01"


def _whole_number(value: str) -> str | None:
    return None if re.fullmatch(r"[0-9]{1,15}", value) else "must be a whole number, 0 or more"


def _number(value: str) -> str | None:
    good = _NUMBER.fullmatch(value) is not None and math.isfinite(float(value))
    return None if good else "must be a number, 0 or more"


def _more_than_nothing(value: str) -> str | None:
    good = _number(value) is None and float(value) > 0
    return None if good else "must be a number of seconds, more than 0"


def _memory(value: str) -> str | None:
    try:
        amount = quantity_value(value)
    except QuantityError as error:
        return str(error)
    if amount >= LEAST_MEMORY:
        return None
    return (
        f"means {amount:.4g} bytes, and an analysis takes more before it has read a row; "
        "write 128Mi or more, as in 2Gi"
    )


def _classes(value: str) -> str | None:
    for word in (word.strip() for word in value.split(",")):
        numbered = word.partition("-")[0] == "status"
        if not (_STATUS if numbered else _CLASS).fullmatch(word):
            return "must be classes of errors separated by commas, as in truncated, status-451"
    return None


def _reads(parse: Callable[[str], object]) -> Checker:
    """A checker that says what the annotation's own reader says."""

    def check(value: str) -> str | None:
        try:
            parse(value)
        except DyffError as error:
            return str(error)
        return None

    return check


def _headers(value: str) -> str | None:
    found = _parsed(value)
    if not isinstance(found, dict) or not all(isinstance(item, str) for item in found.values()):
        return 'must be a JSON object of strings, as in \'{"Authorization": "Bearer ${API_KEY}"}\''
    for name, literal in found.items():
        # A name that is none may be a whole line with its secret: it is not repeated.
        if _TOKEN.fullmatch(name) is None:
            return "has a header's name with characters that no name has; write letters, digits and hyphens"
        if name.lower() in _OWN_HEADERS:
            return f"sets {name}, which is set for each request; leave it out"
        if _CONTROL.search(literal):
            return f"has control characters in the value of {name}; write it on one line"
    return None


def _parsed(value: str) -> object:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


LEAST_MEMORY = 128 * 1024**2
"""Bytes. Less is a slip: a function alone takes some 90 MB before it reads a row, a notebook 200."""

_SCORED = ("Measurement", "SafetyCase", "Audit")
_LIMITED = ("Measurement", "SafetyCase", "Report", "Method")
"""Analyses, and what states limits for all of its own."""

_RULES: dict[str, _Rule] = {
    "automation": _Rule(None, _automation),
    "checks": _Rule(_SCORED, _checks),
    "blocking": _Rule(_SCORED, _one_of("true", "false")),
    "files": _Rule(("Dataset", "Module", "Model", "DataSource"), _nonempty),
    "allow-pickle": _Rule(("Model",), _one_of("true", "false")),
    "withhold": _Rule(("Dataset",), None),
    "from": _Rule(("Dataset",), _nonempty),
    "ingest": _Rule(("Dataset",), _nonempty),
    "rubric": _Rule(("Method",), _nonempty),
    "imported": _Rule(("Evaluation",), _nonempty),
    "max-failed-rows": _Rule(("Evaluation",), _count_or_fraction),
    "accept": _Rule(("Evaluation",), _classes),
    "reuse": _Rule(("Evaluation",), _one_of("true", "false")),
    "max-requests": _Rule(("Evaluation",), _whole_number),
    "max-cost": _Rule(("Evaluation",), _number),
    "max-seconds": _Rule(("Evaluation", *_LIMITED), _number),
    "max-memory": _Rule(_LIMITED, _memory),
    "headers": _Rule(("InferenceService",), _headers),
    "prices": _Rule(("InferenceService",), _reads(parse_prices)),
    "answer-rules": _Rule(("InferenceService",), _reads(parse_answer_rules)),
    "isolation": _Rule(("Measurement", "SafetyCase"), _one_of("process", "pod")),
}


_FOR_A_KIND: dict[tuple[str, str], Checker] = {("max-seconds", kind): _more_than_nothing for kind in _LIMITED}
"""Checkers by annotation and kind that go before the rule's own: no analysis comes to anything in no time."""

_NEVER_BY_ITSELF = {
    "InferenceSession": "sessions never start by themselves: they would spend money unasked",
    **dict.fromkeys(
        ("Method", "AuditProcedure", "Family", "History", "Revision"), "there is nothing to compute for it"
    ),
}
"""Kinds on which ``automation`` means nothing, and why."""


def names_on(kind: str) -> list[str]:
    """This project's annotations that may stand on an entity of ``kind``, without the prefix, sorted."""
    names = [name for name, rule in _RULES.items() if rule.kinds is None or kind in rule.kinds]
    return sorted([*names, *RECORDED] if kind == "Revision" else names)


def withheld_fields(value: str) -> list[str]:
    """The field names of a ``withhold`` annotation; an empty value withholds nothing."""
    return [name.strip() for name in value.split(",") if name.strip()]


def check_keys(
    kind: str,
    labels: Mapping[str, str | None],
    annotations: Iterable[tuple[str, str]],
    places: Mapping[str, Location],
    report: Callable[[Location, str], None],
) -> None:
    """Report what is wrong with an entity's labels and annotations, one by one.

    Takes keys and values instead of an entity, so that those of a document that is no valid entity are
    checked as well.
    """
    for key, text in labels.items():
        if is_reserved(key):
            report(("labels", key), "labels under dyff.io are reserved for the platform; use another domain")
        elif key.startswith(PREFIX) and (bad := _bad_label(key, text)) is not None:
            report(("labels", key), bad)
    seen: set[str] = set()
    for index, (key, value) in enumerate(annotations):
        location = places.get(key, ("annotations", index))
        if key in seen:
            report(("annotations", index, "key"), f"the annotation '{key}' stands twice; keep one")
            continue
        seen.add(key)
        if is_reserved(key):
            report(location, "annotations under dyff.io are reserved for the platform; use another domain")
        elif key.startswith(PREFIX):
            wrong = _wrong(kind, key[len(PREFIX) :], value)
            if wrong is not None:
                report(location, wrong)
        elif key.lower().startswith(PREFIX):
            report(location, f"the prefix of this project's annotations is written '{PREFIX}'")
    if PREFIX + "ingest" in seen and PREFIX + "from" not in seen and kind == "Dataset":
        location = places.get(PREFIX + "ingest", ("annotations",))
        report(location, f"says how to read what '{PREFIX}from' names, which is not there")


def check_annotations(entry: Entry, findings: Findings) -> None:
    """Note what is wrong with a checked entity's labels and annotations."""
    entity = entry.entity
    check_keys(
        entity.kind,
        entity.labels,
        [(annotation.key, annotation.value) for annotation in entity.annotations],
        entry.annotation_places,
        lambda location, message: findings.error(entry, location, message),
    )
    for annotation in entity.annotations:
        why = _NEVER_BY_ITSELF.get(entity.kind)
        if annotation.key == f"{PREFIX}automation" and annotation.value != "manual" and why is not None:
            location = entry.annotation_places.get(annotation.key, ("annotations",))
            findings.warn(entry, location, f"has no effect on {_a(entity.kind)}: {why}")
    uploaded = isinstance(entity, Model) and entity.source.kind == ModelSourceKinds.Upload
    if isinstance(entity, Model) and not uploaded and entry.annotation("files") is not None:
        findings.annotation_error(entry, "files", "belongs on a Model whose source.kind is Upload")


def _bad_label(key: str, value: str | None) -> str | None:
    """What is wrong with a label under this project's prefix."""
    if key == PRIORITY:
        # What is no text is told by the model's own check.
        good = is_priority(value) or (value is not None and not isinstance(value, str))
        return None if good else f"must be a whole number from 0 to {HIGHEST}, the higher the sooner"
    name = key.removeprefix(PREFIX)
    if name in _RULES:
        return f"is an annotation; write '{key}' under annotations"
    return f"there is no label '{key}'; {suggestion(key, [PRIORITY])}"


def _wrong(kind: str, name: str, value: str) -> str | None:
    if kind == "Revision" and name in RECORDED:
        return None
    rule = _RULES.get(name)
    if rule is None:
        return f"there is no annotation '{PREFIX}{name}'; {suggestion(name, _RULES)}"
    if rule.kinds is not None and kind not in rule.kinds:
        return f"'{PREFIX}{name}' belongs on {', '.join(rule.kinds)}; this is of kind {kind}"
    check = _FOR_A_KIND.get((name, kind), rule.check)
    return None if check is None else check(value)


def check_withheld(entry: Entry, dataset: Dataset, findings: Findings) -> None:
    """Note a ``withhold`` that names a field the schema has not, and one that was not said at all.

    A Dataset of several fields must say what no service may see: in the short form its absence is an
    error, in the whole form, which other tools write, a warning.
    """
    try:
        fields = [name for name in dataset.schema_.decode().names if name != "_index_"]
    except DyffError as error:
        findings.error(entry, ("schema", "arrowSchema"), str(error))
        return
    said = entry.annotation("withhold")
    if said is not None:
        for name in withheld_fields(said):
            if name not in fields:
                findings.annotation_error(
                    entry, "withhold", f"the schema has no field '{name}'; {suggestion(name, fields)}"
                )
        return
    if len(fields) < 2:
        return
    message = (
        f"must say which of the fields {_listed(fields)} no service may see; "
        f"add '{PREFIX}withhold' with their names, or with '' if there are none"
    )
    if entry.short_schema:
        findings.error(entry, ("annotations",), message)
    else:
        findings.warn(entry, ("annotations",), message)


def _listed(fields: Sequence[str]) -> str:
    shown = list(fields[:20])
    return ", ".join(shown) + (f" and {len(fields) - 20} more" if len(fields) > 20 else "")


def check_ingest(entry: Entry, source: object, findings: Findings) -> None:
    """Note an ``ingest`` that does not fit what its Dataset is made from.

    For a DataSource it is JSON; for an Evaluation it names a DataView: one of the service's ``outputViews``.
    """
    ingest = entry.annotation("ingest")
    if ingest is None or source is None:
        return
    if isinstance(source, Evaluation):
        view = ingest.strip()
        views = [view.id for view in source.inferenceSession.inferenceService.outputViews]
        if view not in views:
            message = f"the service of '{source.id}' has no outputView '{view}'; {suggestion(view, views)}"
            findings.annotation_error(entry, "ingest", message)
    else:
        try:
            parse_ingest(ingest)
        except IngestFault as error:
            findings.annotation_error(entry, "ingest", str(error))


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"
