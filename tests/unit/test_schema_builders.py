"""What a service's builder may say, and what it means."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyff_dagster.schema.builders import BuilderError, ImageRecipe, parse_builder
from dyff_dagster.schema.platform import InferenceServiceBuilder
from tests.unit.test_catalog_manifests import problems, warnings, write

SERVICE = """
kind: InferenceService
id: served
account: acme
name: Served
builder: {builder}
runner: {{kind: container, resources: {{storage: 1Mi}}{more}}}
interface: {{endpoint: answer, outputSchema: {{arrow: {{answer: string!}}}}}}
"""
IMAGE = ", image: {host: example.org, name: served, digest: 'sha256:" + "0" * 64 + "'}"


def parse(kind: str, *args: str) -> ImageRecipe:
    return parse_builder(InferenceServiceBuilder(kind=kind, args=list(args) or None))


def test_without_arguments_the_manifests_directory_is_built() -> None:
    assert parse("container") == ImageRecipe(("buildah", "docker"), ".", None, ())


@pytest.mark.parametrize("tool", ["buildah", "docker"])
def test_a_builder_may_be_asked_for_by_name(tool: str) -> None:
    assert parse(tool, "service").tools == (tool,)


@pytest.mark.parametrize(
    "args",
    [
        ["--file", "a/Containerfile", "--build-arg", "SIZE=small", "--no-cache", "service"],
        ["--file=a/Containerfile", "--build-arg=SIZE=small", "--no-cache", "service"],
        ["service", "-f", "a/Containerfile", "--build-arg", "SIZE=small", "--no-cache"],
    ],
)
def test_options_are_written_as_builders_take_them(args: list[str]) -> None:
    recipe = parse("container", *args)
    assert (recipe.context, recipe.file) == ("service", "a/Containerfile")
    assert recipe.options == ("--build-arg", "SIZE=small", "--no-cache")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--volume", "/:/host", "."],
            "has the argument '--volume'; allowed are a directory and --file, --build-arg, --label, --platform, "
            "--target, --no-cache, --pull",
        ),
        (
            ["--build-arg", "PASSWORD"],
            "has --build-arg PASSWORD without a value; write --build-arg PASSWORD=VALUE",
        ),
        (["--file"], "has nothing after '--file'"),
        (["a", "b"], "names two directories to build, 'a' and 'b'; leave one out"),
        (["../other"], "names '../other', which is not below the manifest's directory; move it there"),
        (["/etc"], "names '/etc', which is not below the manifest's directory; move it there"),
        (
            ["https://example.org/x.git"],
            "names 'https://example.org/x.git', which is not below the manifest's directory; move it there",
        ),
        (["-f", "../../x"], "names '../../x', which is not below the manifest's directory; move it there"),
        ([""], "names '', which is not below the manifest's directory; move it there"),
    ],
)
def test_what_a_builder_may_not_say(tmp_path: Path, args: list[str], message: str) -> None:
    with pytest.raises(BuilderError) as caught:
        parse("container", *args)
    assert str(caught.value) == message
    builder = "{kind: container, args: [" + ", ".join(f'"{arg}"' for arg in args) + "]}"
    path = write(tmp_path, SERVICE.format(builder=builder, more=""))
    assert problems(path) == [f"audit.yaml:6: builder.args: {message}"]


def test_a_builder_and_an_image_contradict_each_other(tmp_path: Path) -> None:
    path = write(tmp_path, SERVICE.format(builder="{kind: container}", more=IMAGE))
    assert problems(path) == [
        "audit.yaml:7: runner.image: is there, and so is a builder, which makes one; leave one of them out"
    ]


def test_a_builder_that_only_the_platform_has_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path, SERVICE.format(builder="{kind: bentoml}", more=""))
    assert warnings(path) == [
        "audit.yaml:6: builder.kind: is 'bentoml', which builds nothing here; write container, buildah or "
        "docker, or leave the builder out and name runner.image"
    ]
