"""The content digest: one SHA-256 for the rows of a data set, whatever files and batches they came in.

What is hashed. The schema is a tree, and each of its nodes is written as a few streams of bytes that grow
as rows come; every stream has a SHA-256 of its own, and the content digest is the SHA-256 of them together.
So nothing has to be put together across batches, and nothing is done row by row in Python. For a node

* ``V`` has one byte for each of its slots, 1 for a value and 0 for null. What follows is of values only.
* numbers, booleans, dates, times, decimals and binaries of fixed size: ``D`` has the values, little-endian,
  at the width of the type; booleans as one byte, float16 as float32. Every NaN is the same quiet NaN (sign
  and payload zero); 0.0 and -0.0 differ.
* strings and binaries: ``L`` has the lengths in bytes, as 64-bit integers, ``D`` all bytes in a row.
* lists and maps: ``L`` has the lengths (unless they are fixed by the type); the elements of all values in a
  row are the slots of the child node. A map is a list of structs ``key, value``.
* structs: each field is a child node, whose slots are those of the struct's values.

Since the header states the tree, ``V`` and ``L`` say how to read ``D``, and no two contents have the same
streams. The header is canonical JSON: ``["dyff-dagster content 1", [[name, type, children], …], rows]``; it
leaves out metadata and nullability. How Arrow lays a value out is left out too: large, view and dictionary
encoded types are the same as the plain ones.

In which order. By ``_replication_`` (as text), ``_index_`` and ``_response_index_``, as far as the schema
has them, ascending; rows with equal keys, and rows without keys, as they come.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from dyff_dagster.schema.canonical import canonical_json
from dyff_dagster.schema.errors import DyffError

if TYPE_CHECKING:
    import pyarrow.dataset

__all__ = [
    "ContentDigest",
    "ContentError",
    "combined_digest",
    "digest_batches",
    "digest_dataset",
    "digest_table",
    "in_order",
    "sort_keys",
]

_FORMAT = "dyff-dagster content 1"
_KEYS = ("_replication_", "_index_", "_response_index_")

ColumnDigests = tuple[str, list[Any], list[str]]
"""A field's name, its shape (type and children, as in the header), and the SHA-256 of each of its streams."""


class ContentError(DyffError):
    """Rows of which no content digest can be taken; ``field`` is where, ``problem`` says why."""

    def __init__(self, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"no content digest can be taken: field '{field}' {problem}")


class ContentDigest:
    """The content digest of rows that come in batches, in their order.

    Raises:
        ContentError: the schema has a type that there is no encoding for (a union).
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.rows = 0
        """How many rows there were."""
        duplicate = next((name for name in schema.names if schema.names.count(name) > 1), None)
        if duplicate is not None:
            raise ContentError(duplicate, "is in the schema more than once")
        self._nodes = {field.name: _Node(field.type, field.name) for field in schema}

    def update(self, batch: pa.RecordBatch) -> None:
        """Take in the rows of ``batch``.

        Raises:
            ContentError: it has other fields than the schema, or others types.
        """
        columns = {}
        for name in batch.schema.names:
            if name not in self._nodes:
                raise ContentError(name, "is not in the schema")
        for name, node in self._nodes.items():
            at = batch.schema.get_all_field_indices(name)
            if len(at) != 1:
                raise ContentError(name, "is missing" if not at else "is there more than once")
            column = batch.column(at[0])
            if _shape(column.type, name) != node.shape:
                raise ContentError(name, f"is {column.type}, not {self.schema.field(name).type}")
            columns[name] = column
        for name, node in self._nodes.items():
            node.update(columns[name])
        self.rows += batch.num_rows

    def hexdigest(self) -> str:
        """Return the digest of the rows so far, as 64 hexadecimal digits. More may follow."""
        return combined_digest(self.columns(), self.rows)

    def columns(self) -> list[ColumnDigests]:
        """Return for each field its name, its shape and the digests of its streams, in hexadecimal.

        They are JSON, and :func:`combined_digest` makes the content digest of them: so a field that must stay
        where it is can be left out of a copy, and the others still be shown to be those of the digest.
        """
        return [
            (name, node.shape, [stream.hex() for stream in node.streams()])
            for name, node in self._nodes.items()
        ]


def combined_digest(columns: Iterable[ColumnDigests], rows: int) -> str:
    """Return the content digest of ``rows`` rows of which :meth:`ContentDigest.columns` are known.

    Raises:
        ValueError: a stream's digest is no hexadecimal SHA-256.
    """
    known = list(columns)
    whole = hashlib.sha256(canonical_json([_FORMAT, [[name, *shape] for name, shape, _ in known], rows]))
    for stream in (stream for _, _, streams in known for stream in streams):
        digest = bytes.fromhex(stream)
        if len(digest) != whole.digest_size:
            raise ValueError("a stream's digest is no SHA-256")
        whole.update(digest)
    return whole.hexdigest()


def _shape(kind: pa.DataType, path: str) -> list[Any]:
    """Return the type as it stands in the header: a name and the children's names and shapes."""
    kind = _logical(kind)
    if pa.types.is_struct(kind):
        return ["struct", [[field.name, *_shape(field.type, f"{path}.{field.name}")] for field in kind]]
    if pa.types.is_fixed_size_list(kind):
        return [f"fixed_size_list[{kind.list_size}]", [["item", *_shape(kind.value_type, f"{path}[]")]]]
    if pa.types.is_large_list(kind):
        return ["list", [["item", *_shape(kind.value_type, f"{path}[]")]]]
    if pa.types.is_large_binary(kind):
        return ["binary", []]
    if pa.types.is_large_string(kind):
        return ["string", []]
    if _width(kind) is None and not pa.types.is_null(kind):
        raise ContentError(path, f"is {kind}, for which there is no encoding")
    return [str(kind), []]


def _logical(kind: pa.DataType) -> pa.DataType:
    """Return the type to which ``kind`` is brought before it is hashed; its children are not."""
    if isinstance(kind, pa.BaseExtensionType):
        return _logical(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _logical(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary(kind) or pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_map(kind):
        entry = pa.struct([pa.field("key", kind.key_type), pa.field("value", kind.item_type)])
        return pa.large_list(entry)
    if pa.types.is_list(kind) or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return pa.large_list(kind.value_type)
    return kind


def _width(kind: pa.DataType) -> int | None:
    """Return the bytes of one value in ``D``, or None when ``kind`` has no fixed width."""
    if pa.types.is_boolean(kind):
        return 1
    if pa.types.is_float16(kind):
        return 4
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
        return int(kind.bit_width) // 8
    return None


class _Node:
    """The streams of one node of the schema, and the nodes below it."""

    def __init__(self, kind: pa.DataType, path: str) -> None:
        self.shape = _shape(kind, path)
        self.kind = _logical(kind)
        self.path = path
        self.valid = hashlib.sha256()
        self.lengths = hashlib.sha256()
        self.data = hashlib.sha256()
        self.children: list[_Node] = []
        if pa.types.is_struct(self.kind):
            self.children = [_Node(field.type, f"{path}.{field.name}") for field in self.kind]
        elif pa.types.is_large_list(self.kind) or pa.types.is_fixed_size_list(self.kind):
            self.children = [_Node(self.kind.value_type, f"{path}[]")]

    def streams(self) -> Iterator[bytes]:
        """Yield the digests of the streams, this node's first."""
        yield self.valid.digest()
        yield self.lengths.digest()
        yield self.data.digest()
        for child in self.children:
            yield from child.streams()

    def update(self, array: pa.Array) -> None:
        array = _plain(array)
        self.valid.update(_fixed(array.is_valid().cast(pa.uint8()), 1))
        values = array.drop_null() if array.null_count else array
        if pa.types.is_null(self.kind):
            return
        if pa.types.is_struct(self.kind):
            for child, column in zip(self.children, values.flatten(), strict=True):
                child.update(column)
        elif pa.types.is_fixed_size_list(self.kind):
            self.children[0].update(values.flatten())
        elif pa.types.is_large_list(self.kind):
            self.lengths.update(_fixed(pc.list_value_length(values).cast(pa.int64()), 8))
            self.children[0].update(values.flatten())
        elif pa.types.is_large_string(self.kind) or pa.types.is_large_binary(self.kind):
            self.lengths.update(_fixed(pc.binary_length(values).cast(pa.int64()), 8))
            self.data.update(_bytes_of(values))
        else:
            self.data.update(_fixed(_numbers(values), _width(self.kind) or 0))


def _plain(array: pa.Array) -> pa.Array:
    """Bring ``array`` to the type that :func:`_logical` says, its children as they are."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(array.storage)
    if pa.types.is_dictionary(kind):
        return _plain(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(array))
    if pa.types.is_list(kind) or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        # Not cast: that copies lists, and makes invalid arrays of views with nulls (pyarrow 26.0).
        return array
    wanted = _logical(kind)
    return array if wanted == kind else array.cast(wanted)


def _numbers(array: pa.Array) -> pa.Array:
    if pa.types.is_boolean(array.type):
        return array.cast(pa.uint8())
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    if pa.types.is_floating(array.type):
        return pc.if_else(pc.is_nan(array), pa.scalar(float("nan"), array.type), array)
    return array


def _fixed(array: pa.Array, width: int) -> memoryview | bytes:
    """Return the bytes of an array of fixed width that has no nulls."""
    buffer = array.buffers()[1]
    if buffer is None or len(array) == 0:
        return b""
    return memoryview(buffer)[array.offset * width : (array.offset + len(array)) * width]


def _bytes_of(array: pa.Array) -> memoryview | bytes:
    """Return all bytes of a large string or binary array that has no nulls."""
    _, offsets, data = array.buffers()
    if data is None or offsets is None or len(array) == 0:
        return b""
    (start,) = struct.unpack_from("<q", offsets, array.offset * 8)
    (end,) = struct.unpack_from("<q", offsets, (array.offset + len(array)) * 8)
    return memoryview(data)[start:end]


def sort_keys(schema: pa.Schema) -> list[str]:
    """Return the fields by which rows of ``schema`` are ordered."""
    return [name for name in _KEYS if name in schema.names]


def digest_table(table: pa.Table, sort_by: Sequence[str] | None = None) -> str:
    """Return the content digest of ``table``, its rows ordered by ``sort_by`` (default: the keys it has).

    Raises:
        ContentError: a type has no encoding.
    """
    keys = sort_keys(table.schema) if sort_by is None else list(sort_by)
    digest = ContentDigest(table.schema)
    for batch in _sorted(table, keys).to_batches():
        digest.update(batch)
    return digest.hexdigest()


def digest_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> str | None:
    """Return the content digest of ``batches`` if their rows are in order, or None if they are not.

    One pass, in the memory of one batch.

    Raises:
        ContentError: a type has no encoding, or a batch does not fit ``schema``.
    """
    keys = sort_keys(schema)
    digest = ContentDigest(schema)
    last: pa.RecordBatch | None = None
    for batch in batches:
        if batch.num_rows == 0:
            continue
        if keys:
            part = batch.select(keys)
            if not _in_order(part) or (last is not None and not _in_order(_joined(last, part))):
                return None
            last = part.slice(part.num_rows - 1)
        digest.update(batch)
    return digest.hexdigest()


def digest_dataset(dataset: pyarrow.dataset.Dataset) -> str:
    """Return the content digest of ``dataset``.

    Rows that are in order already are streamed; others are read whole and sorted.

    Raises:
        ContentError: a type has no encoding.
    """
    from dyff_dagster.schema.streaming import read_batches

    # No batches ahead: rows may hold images.
    ordered = digest_batches(read_batches(dataset), dataset.schema)
    return ordered if ordered is not None else digest_table(dataset.to_table())


def in_order(table: pa.Table) -> pa.Table:
    """Return ``table`` with its rows in the order in which they are digested."""
    return _sorted(table, sort_keys(table.schema))


def _sorted(table: pa.Table, keys: list[str]) -> pa.Table:
    if not keys:
        return table
    columns = {name: _comparable(table.column(name)) for name in keys}
    order = pc.sort_indices(pa.table(columns), sort_keys=[(name, "ascending") for name in keys])
    return table.take(order)


def _comparable(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Bring a key to a type that pyarrow can compare and sort."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return column.cast(pa.large_string() if pa.types.is_string_view(kind) else kind)


def _joined(first: pa.RecordBatch, second: pa.RecordBatch) -> pa.RecordBatch:
    return pa.Table.from_batches([first, second.slice(0, 1)]).combine_chunks().to_batches()[0]


def _in_order(batch: pa.RecordBatch) -> bool:
    """Tell whether the rows ascend by the batch's columns, the first column first; null is never in order."""
    if any(column.null_count for column in batch.columns):
        return False
    count = batch.num_rows - 1
    if count < 1:
        return True
    # Built from the last key up: a row is before or beside the next one.
    fine: Any = True
    for column in reversed([_comparable(column) for column in batch.columns]):
        here, following = column.slice(0, count), column.slice(1)
        fine = pc.or_(pc.less(here, following), pc.and_(pc.equal(here, following), fine))
    return bool(pc.all(fine).as_py())
