"""How a service's image is built: the ``builder`` of an InferenceService.

The page fixes ``kind`` and ``args`` and no value of either. Here ``kind`` is ``container`` (whichever builder is
installed), ``buildah`` or ``docker``, and ``args`` are what one writes after ``buildah build`` or ``docker build``:
some of their options, and the directory that is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.services import InferenceServiceBuilder

TOOLS = ("buildah", "docker")
KINDS = ("container", *TOOLS)
_WITH_VALUE = ("--build-arg", "--label", "--platform", "--target")
_WITHOUT = ("--no-cache", "--pull")
_SHORT = {"-f": "--file"}


class BuilderError(DyffError):
    """A ``builder`` that says nothing that can be built; says what would be right.

    Attributes:
        reason: The platform's word for it.
    """

    reason = "BuildFailed"


@dataclass(frozen=True)
class ImageRecipe:
    """What to build.

    Attributes:
        tools: Builders that may do it, in the order in which they are looked for.
        context: Directory that is built, relative to the manifest's.
        file: The Containerfile, relative to the manifest's directory; None: ``Containerfile`` or ``Dockerfile`` in the
            context.
        options: Further options, as both builders understand them.
    """

    tools: tuple[str, ...]
    context: str
    file: str | None
    options: tuple[str, ...]


def parse_builder(builder: InferenceServiceBuilder) -> ImageRecipe:
    """Read a builder's kind and arguments.

    Raises:
        BuilderError: The kind is no builder of images, or an argument is none that is allowed.
    """
    if builder.kind not in KINDS:
        raise BuilderError(
            f"nothing here builds a service by a builder of kind '{builder.kind}'; write container, buildah or docker"
        )
    context: str | None = None
    file: str | None = None
    options: list[str] = []
    rest = list(builder.args or ())
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        name = _SHORT.get(name, name)
        if not argument.startswith("-"):
            if context is not None:
                raise BuilderError(
                    f"names two directories to build, '{context}' and '{argument}'; leave one out"
                )
            context = _inside(argument)
            continue
        if argument in _WITHOUT:
            options.append(argument)
            continue
        if name not in ("--file", *_WITH_VALUE):
            allowed = ", ".join(("--file", *_WITH_VALUE, *_WITHOUT))
            raise BuilderError(f"has the argument '{argument}'; allowed are a directory and {allowed}")
        if not equals:
            if not rest:
                raise BuilderError(f"has nothing after '{argument}'")
            value = rest.pop(0)
        if name == "--file":
            file = _inside(value)
        elif name == "--build-arg" and not value.partition("=")[1]:
            # Without a value it would be taken from the environment of whoever builds.
            raise BuilderError(f"has --build-arg {value} without a value; write --build-arg {value}=VALUE")
        else:
            options += [name, value]
    return ImageRecipe(
        TOOLS if builder.kind == "container" else (builder.kind,), context or ".", file, tuple(options)
    )


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "://" in path:
        raise BuilderError(f"names '{path}', which is not below the manifest's directory; move it there")
    return path
