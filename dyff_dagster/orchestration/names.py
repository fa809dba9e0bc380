"""How entities are called in Dagster: keys, groups, op names, check names."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

import dagster as dg

from dyff_dagster.catalog import Threshold
from dyff_dagster.schema.platform import DyffEntity, Entities, Resources


def asset_key(entity: DyffEntity) -> dg.AssetKey:
    """``[plural of the kind, id]``, as ``evaluations/wdbc-logreg``."""
    return _key(entity.kind, entity.id)


@lru_cache(maxsize=65_536)
def _key(kind: str, entity_id: str) -> dg.AssetKey:
    # Asked for some fifteen times for each entity while definitions are loaded.
    return dg.AssetKey([Resources.for_kind(Entities(kind)).value, entity_id])


def plain_name(text: str) -> str:
    """A name that Dagster allows for groups, ops and checks: every other character becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9_]", "_", text)


def op_name(entity: DyffEntity) -> str:
    """Name of the op that computes an entity.

    Ids that differ only in characters Dagster does not allow (``a-b`` and ``a.b``) would share a name, so
    the first digits of the id's SHA-256 are part of it.
    """
    kind = Resources.for_kind(Entities(entity.kind)).value
    digest = hashlib.sha256(f"{kind}/{entity.id}".encode()).hexdigest()[:8]
    return f"{kind}__{plain_name(entity.id)}__{digest}"


def threshold_check_name(threshold: Threshold) -> str:
    """``lower(auc) >= 0.95`` becomes ``lower_auc_at_least_0_95``."""
    words = {
        ">=": "at_least",
        ">": "above",
        "<=": "at_most",
        "<": "below",
        "==": "equals",
        "!=": "differs_from",
    }
    bound = {"value": "", "low": "lower_", "high": "upper_"}[threshold.bound]
    number = f"{threshold.number:g}".replace("-", "minus_")
    return plain_name(f"{bound}{threshold.score}_{words[threshold.op]}_{number}")


def owner_of(account: str) -> str | None:
    """``team:ACCOUNT`` where Dagster allows such an owner, else None."""
    return f"team:{account}" if re.fullmatch(r"[A-Za-z0-9_-]+", account) else None
