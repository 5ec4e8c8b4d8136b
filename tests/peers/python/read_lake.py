"""Reads the plain files of a lake, and its directories, with DuckDB and with pyarrow: read_lake.py LAKE

Prints one JSON object: for each reader and table the columns with their types, as Arrow names them, and every row,
sorted by trace and span. Times are nanoseconds as text. Nothing here knows what the columns mean, so that the
readers and the lake's own SQL can be held against each other.
"""

import json
import pathlib
import sys

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq


def with_duckdb(files: list[str]) -> pa.Table:
    # An instant in Arrow's terms carries a zone to show it in; DuckDB's is the session's, this machine's by default.
    duckdb.execute("SET TimeZone = 'UTC'")
    return duckdb.read_parquet(files, hive_partitioning=False).to_arrow_table()


def with_pyarrow(files: list[str]) -> pa.Table:
    # One file at a time: no reading of directories that would add columns from their names.
    return pa.concat_tables(pq.ParquetFile(file).read() for file in files)


# Keys of the folders, which readers of directories show as columns.
KEYS = ["cluster_key", "date", "hour"]


def directory_with_duckdb(files: list[str]) -> pa.Table:
    pattern = f"{root(files)}/**/*.parquet"
    read = duckdb.read_parquet(pattern, hive_partitioning=True).to_arrow_table()
    return read.drop_columns(KEYS)


def directory_with_pyarrow(files: list[str]) -> pa.Table:
    return pq.read_table(root(files)).drop_columns(KEYS)


def directory_as_dataset(files: list[str]) -> pa.Table:
    return ds.dataset(root(files), partitioning="hive").to_table().drop_columns(KEYS)


def root(files: list[str]) -> pathlib.Path:
    """The table's folder, four above each of its files."""
    return pathlib.Path(files[0]).parents[3]


def logical(kind: pa.DataType) -> str:
    """The type without how it is laid out in memory: dictionaries, wide offsets."""
    if pa.types.is_dictionary(kind):
        return logical(kind.value_type)
    if pa.types.is_map(kind):
        return f"map<{logical(kind.key_type)}, {logical(kind.item_type)}>"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{logical(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return "struct<" + ", ".join(f"{field.name}: {logical(field.type)}" for field in kind) + ">"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    return str(kind)


def plain(value: pa.Scalar):
    if not value.is_valid:
        return None
    if isinstance(value, pa.DictionaryScalar):
        return plain(value.value)
    if isinstance(value, pa.TimestampScalar):
        return str(value.value)
    if isinstance(value, pa.MapScalar):
        return {plain(entry["key"]): plain(entry["value"]) for entry in value.values}
    if isinstance(value, pa.ListScalar):
        return [plain(element) for element in value.values]
    if isinstance(value, pa.StructScalar):
        return {name: plain(field) for name, field in value.items()}
    return value.as_py()


def table(read, files: list[str]) -> dict:
    if not files:
        return {"types": {}, "rows": []}
    data = read(files)
    rows = [{name: plain(data[name][i]) for name in data.column_names} for i in range(data.num_rows)]
    rows.sort(key=lambda row: json.dumps([row["trace_id"], row["span_id"], row], sort_keys=True))
    return {"types": {field.name: logical(field.type) for field in data.schema}, "rows": rows}


def main(lake: str) -> None:
    files = {name: sorted(map(str, pathlib.Path(lake, name).rglob("*.parquet"))) for name in ("spans", "logs")}
    readers = {
        "duckdb": with_duckdb,
        "pyarrow": with_pyarrow,
        "duckdb on directories": directory_with_duckdb,
        "pyarrow on directories": directory_with_pyarrow,
        "pyarrow datasets": directory_as_dataset,
    }
    seen = {reader: {name: table(read, paths) for name, paths in files.items()} for reader, read in readers.items()}
    print(json.dumps(seen, ensure_ascii=False))


main(*sys.argv[1:])
