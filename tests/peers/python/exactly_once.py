"""Holds the spans in a lake against what a client knows: exactly_once.py LAKE DIR

DIR holds acked.txt and sent.txt, one "trace id + span id" in hex per line. Reads the plain files as any reader that
lists files would, with DuckDB in a directory and with pyarrow in a bucket (s3://BUCKET/PREFIX), and prints one JSON
object: counts of rows, and of spans acknowledged but missing, stored more than once, and never sent.
"""

import collections
import json
import os
import pathlib
import sys

import duckdb
import pyarrow.parquet
from pyarrow import fs


def in_directory(lake: str) -> list[str]:
    if not any(pathlib.Path(lake, "spans").rglob("*.parquet")):
        return []
    pattern = f"{lake}/spans/**/*.parquet"
    rows = duckdb.execute("SELECT trace_id || span_id FROM read_parquet($1)", [pattern]).fetchall()
    return [row[0] for row in rows]


def in_bucket(lake: str) -> list[str]:
    scheme, address = os.environ["AWS_ENDPOINT_URL"].split("://")
    store = fs.S3FileSystem(endpoint_override=address, scheme=scheme, region=os.environ["AWS_REGION"])
    found = store.get_file_info(fs.FileSelector(f"{lake}/spans", recursive=True, allow_not_found=True))
    ids = []
    for file in found:
        if file.path.endswith(".parquet"):
            with store.open_input_file(file.path) as opened:
                table = pyarrow.parquet.ParquetFile(opened).read(columns=["trace_id", "span_id"])
            ids += [trace + span for trace, span in zip(*(column.to_pylist() for column in table.columns))]
    return ids


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
