"""Times in raw files: ISO 8601 text read into Arrow's timestamps, dates and times of day."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["holds_times", "read_times", "times_of"]


def holds_times(kind: pa.DataType) -> bool:
    """Whether values of a type are, or hold, timestamps, dates or times of day."""
    if pa.types.is_map(kind):
        return holds_times(kind.key_type) or holds_times(kind.item_type)
    if _is_list(kind):
        return holds_times(kind.value_type)
    if pa.types.is_struct(kind):
        return any(holds_times(field.type) for field in kind)
    return _is_time(kind)


def read_times(value: Any, kind: pa.DataType) -> Any:
    """A JSON value with each text that stands where a time belongs replaced by Arrow's number for it.

    Nothing is rounded: ``10:00:00.5`` is no time in whole seconds. A timestamp with a zone needs an offset in
    its text, one without a zone must have none.

    Raises:
        pyarrow.ArrowInvalid: a text is no ISO 8601, or does not fit the type.
    """
    if isinstance(value, str) and _is_time(kind):
        return times_of(pa.array([value], pa.string()), kind)[0].value
    if isinstance(value, list) and _is_list(kind):
        return [read_times(item, kind.value_type) for item in value]
    if isinstance(value, dict) and pa.types.is_struct(kind):
        types = {field.name: field.type for field in kind}
        return {
            name: read_times(item, types[name]) if name in types else item for name, item in value.items()
        }
    if isinstance(value, dict) and pa.types.is_map(kind):
        return {
            read_times(name, kind.key_type): read_times(item, kind.item_type) for name, item in value.items()
        }
    return value


def times_of(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """An array of texts as timestamps, dates or times of day.

    Raises:
        pyarrow.ArrowInvalid: a text is no ISO 8601, or does not fit the type.
    """
    if not pa.types.is_time(kind):
        return texts.cast(kind)
    # pyarrow reads no times of day by themselves, but as those of some day.
    moments = pc.binary_join_element_wise("1970-01-01T", texts, "").cast(pa.timestamp("ns"))
    return moments.cast(pa.time64("ns")).cast(kind)


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
