"""Holds the spans in a lake against what a client knows: exactly_once.py LAKE DIR

DIR holds acked.txt and sent.txt, one "trace id + span id" in hex per line. Reads the plain files with DuckDB, as any
reader that lists files would, and prints one JSON object: counts of rows, and of spans acknowledged but missing,
stored more than once, and never sent.
"""

import collections
import json
import pathlib
import sys

import duckdb


def main(lake: str, directory: str) -> None:
    acked = set(pathlib.Path(directory, "acked.txt").read_text().split())
    sent = set(pathlib.Path(directory, "sent.txt").read_text().split())
    pattern = f"{lake}/spans/**/*.parquet"
    rows = []
    if any(pathlib.Path(lake, "spans").rglob("*.parquet")):
        rows = duckdb.execute("SELECT trace_id || span_id FROM read_parquet($1)", [pattern]).fetchall()
    stored = collections.Counter(row[0] for row in rows)
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
