"""Methods written as Python: a function, or the deprecated rubric."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from dyff_dagster.analysis import display
from dyff_dagster.analysis.context import AnalysisContext
from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.rows import write_rows
from dyff_dagster.analysis.rubrics import (
    PREDICTIONS,
    TASK_DATA,
    ReportViews,
    find_rubric,
    schema_of,
    view_input,
)
from dyff_dagster.schema.platform import MethodImplementationKind


def run_function(
    context: AnalysisContext,
    schema: pa.Schema | None,
    progress: Callable[[int], None],
    views: ReportViews | None = None,
    scratch: Path | None = None,
) -> int:
    """Call the function or rubric of the context's method, write what it yields, return the number of rows.

    A function is called as ``f(arguments, **{keyword: pyarrow.dataset.Dataset})``, a rubric as
    ``Rubric().apply(task_data, predictions)``; both yield record batches.

    Args:
        context: The analysis.
        schema: What the rows must be; None: what the rubric says that they are.
        progress: Told the number of rows.
        views: Through what a rubric sees its inputs.
        scratch: Where they are written as they are seen.

    Raises:
        AnalysisError: There is no such function, or what it yields does not fit the schema.
        ViewError: A row of an input cannot be seen through its view.
    """
    implementation = context.analysis.method.implementation
    batches: Iterable[pa.RecordBatch]
    if implementation.kind == MethodImplementationKind.PythonFunction and implementation.pythonFunction:
        batches = _call(context, implementation.pythonFunction.fullyQualifiedName)
    elif implementation.kind == MethodImplementationKind.PythonRubric and implementation.pythonRubric:
        name = implementation.pythonRubric.fullyQualifiedName
        rubric = find_rubric(name)
        if schema is None:
            schema = schema_of(rubric, name)
        inputs = [context.open_input_dataset(keyword) for keyword in (TASK_DATA, PREDICTIONS)]
        if views is not None and scratch is not None:
            seen = ((TASK_DATA, views.dataset), (PREDICTIONS, views.evaluation))
            inputs = [
                view_input(found, view, scratch / "views" / keyword, views.evaluation_id)
                for found, (keyword, view) in zip(inputs, seen, strict=True)
            ]
        batches = rubric.apply(*inputs)
    else:
        raise AnalysisError(f"{context.id}: its method is no Python function")
    if schema is None:
        raise AnalysisError(f"{context.id}: it is not known what rows its method makes")
    return write_rows(batches, schema, context.output_path, progress)


def run_page_function(context: AnalysisContext) -> str:
    """Call the function of a method that makes a SafetyCase, and return what it showed, as HTML.

    It reports through an ``AnalysisContext`` of its own; text that it yields is Markdown between that.

    Raises:
        AnalysisError: There is no such function, or it yields something else than text.
    """
    from nbconvert.filters import markdown2html

    implementation = context.analysis.method.implementation
    if implementation.pythonFunction is None:
        raise AnalysisError(f"{context.id}: its method is no Python function")
    with display.collected() as shown:
        made = _call(context, implementation.pythonFunction.fullyQualifiedName)
        if isinstance(made, str):
            made = [made]
        for text in made if made is not None else ():
            if not isinstance(text, str):
                raise AnalysisError(
                    f"a function that makes a SafetyCase yields Markdown text or nothing, and this one yielded a "
                    f"{type(text).__name__}; tables and figures are shown with ctx.table and ctx.figure"
                )
            shown.append(str(markdown2html(text)))
    return "\n".join(shown)


def _call(context: AnalysisContext, name: str) -> Any:
    inputs = {keyword: context.open_input_dataset(keyword) for keyword in context.inputs}
    return find_symbol(name)(context.arguments, **inputs)


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
            # A name that code was compiled under may be anything.
            if root in path.parents and path.is_file():
                return f"{path.relative_to(root).as_posix()}:{frame.lineno}"
    return ""
