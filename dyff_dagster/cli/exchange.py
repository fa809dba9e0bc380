"""To and from the reference: ``import`` and ``export``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dyff_dagster.cli.options import catalog_option, load_catalog, open_store, storage_option
from dyff_dagster.schema.errors import DyffError

if TYPE_CHECKING:
    from dyff_dagster.catalog import Catalog
    from dyff_dagster.schema.interchange import SchemaName
    from dyff_dagster.store import Store


@click.command("import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default="the current directory",
    help="The catalog to add them to: a directory named after its id is made there for each entity.",
)
@click.option("--overwrite", is_flag=True, help="Replace manifests that are there already.")
@click.option("--copy", is_flag=True, help="Copy the entities' files too; else they are used where they lie.")
@click.option("--json", "as_json", is_flag=True, help="What was written as a JSON object.")
def import_entities(path: Path, out: Path, overwrite: bool, copy: bool, as_json: bool) -> None:
    """Turn entities of Dyff into manifests.

    PATH is a storage root of Dyff's local platform, a file with an entity (or a list of them) as JSON, or a
    directory of such files. Status, reason and time of creation are left out. All problems are told at once,
    and then nothing is written.
    """
    from dyff_dagster.catalog.importing import import_entities as run

    imported = run(path, out, overwrite=overwrite, copy=copy)
    for warning in imported.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        made = {
            "manifests": [str(manifest) for manifest in imported.manifests],
            "entities": dict(imported.entities),
            "warnings": list(imported.warnings),
        }
        click.echo(json.dumps(made, indent=1))
        return
    for manifest in imported.manifests:
        click.echo(str(manifest))


@click.command("export", short_help="Write entities as JSON that dyff-schema reads.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@catalog_option
@storage_option
@click.option(
    "--schema",
    type=click.Choice(["0.12", "0.46"]),
    default="0.46",
    show_default=True,
    help="The dyff-schema that is to read them.",
)
@click.option(
    "--out",
    default="-",
    show_default=True,
    help="Directory for ID/.KIND.json, as Dyff's local platform keeps them; '-' prints them.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
def export(
    ids: tuple[str, ...], catalog: str, storage: str, schema: SchemaName, out: str, overwrite: bool
) -> None:
    """Write entities of a catalog as JSON that dyff-schema reads: those named, or all.

    An ID may be FAMILY@MEMBER, as in manifests. Printed, one entity is an object and several are a list. For
    0.46, which demands a status and a time of creation, those of the storage are taken, else Created and now.
    """
    from dyff_dagster.store import refuse_links, replacing

    loaded = load_catalog(catalog)
    store = open_store(storage)
    written: dict[str, dict[str, Any]] = {}
    for entity_id in map(loaded.id_of, ids or loaded.entities):
        written[entity_id] = _exported(loaded, store, entity_id, schema)
    if out == "-":
        made: Any = list(written.values())
        click.echo(json.dumps(made[0] if len(ids) == 1 else made, indent=1, ensure_ascii=False))
        return
    paths = {name: Path(out, name, f".{data['kind'].lower()}.json") for name, data in written.items()}
    for path in paths.values():
        refuse_links(path, Path(out))
    there = [str(path) for path in paths.values() if os.path.lexists(path)]
    if there and not overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise DyffError(f"{there[0]}{more} is there already; name another place, or say --overwrite")
    for name, path in paths.items():
        with replacing(path, Path(out)) as stream:
            stream.write((json.dumps(written[name], indent=1, ensure_ascii=False) + "\n").encode())
        click.echo(str(path))


def _exported(catalog: Catalog, store: Store, entity_id: str, schema: SchemaName) -> dict[str, Any]:
    from dyff_dagster.schema.interchange import write_entity
    from dyff_dagster.schema.platform import History, Revision
    from dyff_dagster.schema.statuses import success_status

    entity = catalog.get(entity_id)
    about = None
    if isinstance(entity, History):
        latest = catalog.entities.get(entity.latest)
        about = latest.entity.id if isinstance(latest, Revision) else None
    commit = store.current(entity_id)
    if commit is None:
        made = write_entity(entity, schema, history_of=about)
    else:
        made = write_entity(entity, schema, status=success_status(entity.kind), created=commit.committed)
    for sentence in made.lost:
        click.echo(f"warning: {sentence}", err=True)
    return made.data
