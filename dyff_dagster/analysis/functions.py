"""Methods written as Python: a function, or the deprecated rubric."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from dyff_dagster.analysis.context import AnalysisContext
from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.rows import write_rows
from dyff_dagster.schema.platform import MethodImplementationKind


def run_function(context: AnalysisContext, schema: pa.Schema, progress: Callable[[int], None]) -> int:
    """Call the function or rubric of the context's method, write what it yields, return the number of rows.

    A function is called as ``f(arguments, **{keyword: pyarrow.dataset.Dataset})``, a rubric as
    ``Rubric().apply(task_data, predictions)``; both yield record batches.

    Raises:
        AnalysisError: There is no such function, or what it yields does not fit the schema.
    """
    implementation = context.analysis.method.implementation
    batches: Iterable[pa.RecordBatch]
    if implementation.kind == MethodImplementationKind.PythonFunction and implementation.pythonFunction:
        function = find_symbol(implementation.pythonFunction.fullyQualifiedName)
        batches = function(
            context.arguments, **{keyword: context.open_input_dataset(keyword) for keyword in context.inputs}
        )
    elif implementation.kind == MethodImplementationKind.PythonRubric and implementation.pythonRubric:
        rubric = find_symbol(implementation.pythonRubric.fullyQualifiedName)()
        batches = rubric.apply(
            context.open_input_dataset("task_data"), context.open_input_dataset("predictions")
        )
    else:
        raise AnalysisError(f"{context.id}: its method is no Python function")
    return write_rows(batches, schema, context.output_path, progress)


def find_symbol(name: str) -> Any:
    """Import what a dotted name means, ``package.module.function``.

    Raises:
        AnalysisError: There is no such module, or nothing of that name in it. What goes wrong inside the
            module while it is imported is raised as it is.
    """
    module_name, _, symbol = name.rpartition(".")
    if not module_name:
        raise AnalysisError(f"{name!r} is no fully qualified name; write MODULE.FUNCTION")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise AnalysisError(
            f"there is no Python module {error.name!r} for {name}; is it in a Module that the method lists?"
        ) from None
    try:
        return getattr(module, symbol)
    except AttributeError:
        raise AnalysisError(f"Python module {module_name!r} has no {symbol!r}") from None


def raised_in(trace: TracebackType | None, directory: Path) -> bool:
    """Whether the innermost line of a traceback, the one that raised, is in a file below a directory."""
    frames = traceback.extract_tb(trace)
    return bool(frames) and directory.resolve() in Path(frames[-1].filename).resolve().parents


def place_of(trace: TracebackType | None, directories: Iterable[Path]) -> str:
    """``scoring.py:31``: the innermost line of a traceback that is in one of the directories, or nothing."""
    roots = [directory.resolve() for directory in directories]
    for frame in reversed(traceback.extract_tb(trace)):
        path = Path(frame.filename).resolve()
        for root in roots:
            if root in path.parents:
                return f"{path.relative_to(root).as_posix()}:{frame.lineno}"
    return ""
