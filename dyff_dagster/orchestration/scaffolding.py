"""What ``dg scaffold defs dyff_dagster.DyffCatalogComponent NAME`` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
from dagster.components.component_scaffolding import scaffold_component
from pydantic import BaseModel, Field

_FOLDER = "manifests"
_FIRST = """\
# The first manifest of this catalog: write over it. Every file of this folder is read, and of the folders in it.
# `dyff-dagster new KIND` prints a commented manifest of any kind; `dg check defs` says what is wrong with those here.
kind: InferenceService
id: an-endpoint
account: audits
name: A service that is hosted already
interface:
  endpoint: https://models.example/generate # a POST of each row, as JSON
  outputSchema:
    arrow: {answer: string!}
"""


class DyffCatalogScaffoldParams(BaseModel):
    """What one can say when a component is made."""

    path: str | None = Field(
        default=None,
        description="A catalog that is there already: relative to the component's directory, or a module's name.",
    )
    storage: str = Field(
        default="dyff-storage", description="A directory, relative to the project, or an fsspec URL."
    )


class DyffCatalogScaffolder(dg.Scaffolder[DyffCatalogScaffoldParams]):
    """Writes a component, and a folder with a first manifest where no catalog is named."""

    @classmethod
    def get_scaffold_params(cls) -> type[DyffCatalogScaffoldParams]:
        """The options of ``dg scaffold defs``."""
        return DyffCatalogScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[DyffCatalogScaffoldParams]) -> None:
        """Write the files."""
        attributes: dict[str, Any] = {
            "path": request.params.path or _FOLDER,
            "storage": request.params.storage,
        }
        scaffold_component(request, attributes)
        if request.params.path is None:
            _write_first(request.target_path if request.target_path.is_dir() else request.target_path.parent)


def _write_first(directory: Path) -> None:
    """A folder for manifests; one that is there already is left as it is."""
    folder = directory / _FOLDER
    if not folder.exists():
        folder.mkdir()
        (folder / "first.yaml").write_text(_FIRST, "utf-8")
