"""A safety case for the small audit: a notebook of one cell that reads the scores and draws nothing."""

from __future__ import annotations

from pathlib import Path

import nbformat

MANIFESTS = """
kind: Module
id: notebook
account: acme
name: Notebook
annotations: {dyff-dagster/files: notebook}
artifacts: [{path: case.ipynb}]
---
kind: Method
id: argue
account: acme
name: Argue
scope: Evaluation
implementation: {kind: JupyterNotebook, jupyterNotebook: {notebookModule: notebook, notebookPath: case.ipynb}}
modules: [notebook]
inputs: [{keyword: scores, kind: Measurement}]
output: {kind: SafetyCase, safetyCase: {name: Does it double?}}
---
kind: SafetyCase
id: case
account: acme
method: argue
scope: {evaluation: doubled, inferenceService: doubler, dataset: rows}
inputs: [{keyword: scores, entity: scores}]
"""

CELL = """
from dyff_dagster import AnalysisContext
from dyff_dagster.analysis.statistics import Estimate

context = AnalysisContext()
(row,) = context.open_input_dataset("scores").to_table().to_pylist()
context.score("accuracy", Estimate(row["value"], row["low"], row["high"], row["n"]))
context.conclusion("It doubles.", holds=True)
"""


def add(directory: Path) -> Path:
    """Add it to a small catalog on disk; returns the catalog's directory."""
    (directory / "notebook").mkdir()
    (directory / "safety-case.yaml").write_text(MANIFESTS)
    # A fixed id: the notebook's bytes are an input, and two copies of the catalog must be the same.
    cell = nbformat.v4.new_code_cell(CELL, id="argue")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), directory / "notebook" / "case.ipynb")
    return directory
