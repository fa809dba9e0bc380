"""Builders of services: can their arguments be built from, and do they leave the runner its image?"""

from __future__ import annotations

from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.schema.builders import KINDS, BuilderError, parse_builder
from dyff_dagster.schema.platform import InferenceService


def check_builder(entry: Entry, service: InferenceService, findings: Findings) -> None:
    """Note arguments that no builder takes, and an image besides; warn of builders that only the platform has."""
    if service.builder is None:
        return
    if service.builder.kind not in KINDS:
        findings.warn(
            entry,
            ("builder", "kind"),
            f"is '{service.builder.kind}', which builds nothing here; write container, buildah or docker, or leave "
            "the builder out and name runner.image",
        )
        return
    try:
        parse_builder(service.builder)
    except BuilderError as error:
        findings.error(entry, ("builder", "args"), str(error))
    if service.runner is not None and service.runner.image is not None:
        findings.error(
            entry,
            ("runner", "image"),
            "is there, and so is a builder, which makes one; leave one of them out",
        )
