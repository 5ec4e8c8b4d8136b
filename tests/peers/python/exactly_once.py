"""Holds the spans and logs in a lake against what a client knows: exactly_once.py LAKE DIR

DIR holds acked.txt and sent.txt, one id per line: trace id and span id in hex, for a log record followed by "@" and
its time in nanoseconds. Reads the plain files as any reader that lists files would, with DuckDB in a directory and
with pyarrow in a bucket (s3://BUCKET/PREFIX), and prints one JSON object: counts of rows, and of items acknowledged
but missing, stored more than once, and never sent.
"""

import collections
import json
import os
import pathlib
import sys

import duckdb
import pyarrow
import pyarrow.parquet
from pyarrow import fs


def in_directory(lake: str) -> list[str]:
    ids = []
    for table, identity in [
        ("spans", "trace_id || span_id"),
        ("logs", "coalesce(trace_id, '') || coalesce(span_id, '') || '@' || epoch_ns(time)"),
    ]:
        if any(pathlib.Path(lake, table).rglob("*.parquet")):
            query = f"SELECT {identity} FROM read_parquet($1)"
            ids += [row[0] for row in duckdb.execute(query, [f"{lake}/{table}/**/*.parquet"]).fetchall()]
    return ids


def in_bucket(lake: str) -> list[str]:
    scheme, address = os.environ["AWS_ENDPOINT_URL"].split("://")
    store = fs.S3FileSystem(endpoint_override=address, scheme=scheme, region=os.environ["AWS_REGION"])

    def columns(table: str, names: list[str]) -> list[tuple]:
        found = store.get_file_info(fs.FileSelector(f"{lake}/{table}", recursive=True, allow_not_found=True))
        rows = []
        for file in found:
            if file.path.endswith(".parquet"):
                with store.open_input_file(file.path) as opened:
                    read = pyarrow.parquet.ParquetFile(opened).read(columns=names)
                if "time" in names:
                    position = read.schema.get_field_index("time")
                    read = read.set_column(position, "time", read["time"].cast(pyarrow.int64()))
                rows += zip(*(read[name].to_pylist() for name in names))
        return rows

    spans = [trace + span for trace, span in columns("spans", ["trace_id", "span_id"])]
    logs = columns("logs", ["trace_id", "span_id", "time"])
    return spans + [f"{trace or ''}{span or ''}@{time}" for trace, span, time in logs]


def main(lake: str, directory: str) -> None:
    acked = set(pathlib.Path(directory, "acked.txt").read_text().split())
    sent = set(pathlib.Path(directory, "sent.txt").read_text().split())
    _, separator, bucket = lake.partition("s3://")
    stored = collections.Counter(in_bucket(bucket) if separator else in_directory(lake))
    print(
        json.dumps(
            {
                "rows": sum(stored.values()),
                "acked": len(acked),
                "missing": len(acked - stored.keys()),
                "doubled": sum(count > 1 for count in stored.values()),
                "unknown": len(stored.keys() - sent),
            }
        )
    )


main(*sys.argv[1:])
