"""The file that tells a method's code what its analysis is, in the form that the reference defines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.subjects import NOBODY, Subjects, subjects_data
from dyff_dagster.schema.ids import check_id, null_id
from dyff_dagster.schema.interchange import full_form
from dyff_dagster.schema.platform import Analysis, DocumentationBase, DyffEntity, Measurement, SafetyCase

CONFIG_FILE = "DYFF_AUDIT_ANALYSIS_CONFIG_FILE"

_FIELDS = ("scope", "arguments", "inputs", "method", "data")


@dataclass(frozen=True)
class Heading:
    """What stands above a page whose author says nothing else.

    Attributes:
        title: Of its documentation, else its name.
        summary: Of its documentation, else empty.
    """

    title: str
    summary: str = ""

    @classmethod
    def of(cls, entity: Measurement | SafetyCase, documentation: DocumentationBase | None) -> Heading:
        """The heading of an entity's page."""
        if documentation is None:
            return cls(entity.name)
        return cls(documentation.title or entity.name, (documentation.summary or "").strip())


def has_heading(entity: DyffEntity) -> bool:
    """Whether an entity's artifact has a place for a heading: it is a page, or comes with a notebook."""
    if isinstance(entity, Measurement):
        return entity.method.implementation.jupyterNotebook is not None
    return isinstance(entity, SafetyCase)


@dataclass(frozen=True)
class Configuration:
    """What the file says: the analysis, its id, and what to head its page with."""

    id: str
    analysis: Analysis
    heading: Heading


def write_configuration(
    path: Path, entity: Measurement | SafetyCase, heading: Heading, subjects: Subjects = NOBODY
) -> None:
    """Write an entity's analysis down, with what it is told of its subjects."""
    # The reference reads no other form than a spec with the id in it, and finds the method's scores there.
    spec = full_form(entity)
    data = list(spec.get("data", []))
    told = {item["key"] for item in data}
    if added := [item for item in subjects_data(subjects) if item["key"] not in told]:
        spec["data"] = data + added
    config = {
        "spec": {"id": entity.id, **{name: spec[name] for name in _FIELDS if name in spec}},
        "heading": asdict(heading),
    }
    path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=True), "utf-8")


def read_configuration(path: Path) -> Configuration:
    """The inverse of :func:`write_configuration`; a file from a cluster has no heading.

    Raises:
        AnalysisError: There is no such file, or it describes no analysis.
    """
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
        spec: dict[str, Any] = dict(document["spec"])
        analysis_id = check_id(str(spec["id"]))
        # A file from a cluster may leave out who the method is, and holds more than an Analysis has.
        fields = {name: spec[name] for name in Analysis.model_fields if name in spec}
        fields["method"] = {"id": null_id(), "account": null_id(), **fields["method"]}
        heading = Heading(**document.get("heading", {"title": fields["method"].get("name", analysis_id)}))
        return Configuration(analysis_id, Analysis.model_validate(fields), heading)
    except FileNotFoundError:
        raise AnalysisError(f"{CONFIG_FILE} names {path}, and there is no such file") from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise AnalysisError(
            f"{path} describes no analysis ({type(error).__name__}): it must be YAML of the form "
            "{spec: {id: ID, method: {...}, arguments: [...], inputs: [...]}}"
        ) from error
