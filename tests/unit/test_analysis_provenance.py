"""What a page says that it was made from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from dyff_dagster.analysis.provenance import origins_of
from dyff_dagster.schema.platform import SafetyCase
from dyff_dagster.store import Inputs

HASH = {name: name[0] * 64 for name in ("dataset", "evaluation", "service", "model", "code", "judged")}


def case(**scope: str) -> SafetyCase:
    notebook = {"notebookModule": "code", "notebookPath": "a.ipynb"}
    return SafetyCase.model_validate(
        {
            "id": "case",
            "account": "acme",
            "name": "Case",
            "scope": scope,
            "method": {
                "id": "method",
                "account": "acme",
                "name": "A method",
                "scope": "Evaluation",
                "implementation": {"kind": "JupyterNotebook", "jupyterNotebook": notebook},
                "modules": ["code"],
                "output": {"kind": "SafetyCase", "safetyCase": {"name": "Case"}},
            },
            "arguments": [{"keyword": "least", "value": "0.9"}],
            "inputs": [
                {"keyword": "instances", "entity": "judged"},
                {"keyword": "rows", "entity": "dataset"},
                {"keyword": "again", "entity": "dataset"},
            ],
        }
    )


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "a.ipynb").write_text("{}")
    return tmp_path


def found(module: Path, extras: dict[str, str], **scope: str) -> dict[str, tuple[str, str, str]]:
    inputs = Inputs(
        spec="5" * 64,
        upstream={name: HASH[name] for name in ("dataset", "judged", "code")},
        extras={f"scope:{name}": HASH[name] for name in ("evaluation", "service", "model")} | extras,
    )
    origins = origins_of(case(**scope), inputs, {"code": module})
    assert len({(origin.role, origin.entity) for origin in origins}) == len(origins)
    return {origin.role: (origin.entity, origin.name, origin.version) for origin in origins}


SCOPE: dict[str, Any] = {
    "dataset": "dataset",
    "evaluation": "evaluation",
    "inferenceService": "service",
    "model": "model",
}


def test_everything_is_named_once_with_its_version(module: Path) -> None:
    assert found(module, {}, **SCOPE) == {
        "Data set": ("dataset", "read as “rows”, “again”", HASH["dataset"]),
        "Answers": ("evaluation", "", HASH["evaluation"]),
        "Inference service": ("service", "", HASH["service"]),
        "Container image": ("", "none: the service was run without one", ""),
        "Model": ("model", "", HASH["model"]),
        "Input": ("judged", "read as “instances”", HASH["judged"]),
        "Method with its arguments": ("method", "A method", "5" * 64),
        "Method code": ("code", "a module", HASH["code"]),
        "Notebook": ("a.ipynb", "in code", hashlib.sha256(b"{}").hexdigest()),
        "Argument least": ("", "0.9", ""),
    }


def test_a_container_image_is_named_with_its_digest(module: Path) -> None:
    image = {"image:service": f"registry.example.org/team/model@sha256:{'9' * 64}"}
    assert found(module, image, **SCOPE)["Container image"] == (
        "registry.example.org/team/model",
        "",
        "9" * 64,
    )


def test_of_what_the_scope_leaves_out_nothing_is_said(module: Path) -> None:
    said = found(module, {}, dataset="dataset")
    assert said.keys() == {
        "Data set", "Input", "Method with its arguments", "Method code", "Notebook", "Argument least",
    }  # fmt: skip


def test_a_notebook_that_leads_out_of_its_module_is_not_read(module: Path, tmp_path: Path) -> None:
    (module / "a.ipynb").unlink()
    (module / "a.ipynb").symlink_to("/etc/passwd")
    assert found(module, {}, **SCOPE)["Notebook"] == ("a.ipynb", "in code", "")
