"""Counts the spans of a lake with DuckDB, as span metrics should: span_metrics.py LAKE

Prints one JSON object: for every series of calls, and every fifteen seconds of the spans' ends, how many there were in
each bucket of duration (bounds of 0.002 * 2^n seconds), and the sum of durations in nanoseconds.
"""

import json
import sys

import duckdb

BOUNDS = [2_000_000 << n for n in range(14)]
SECONDS = 15


def main(lake: str) -> None:
    bucket = " + ".join(f"(duration_ns > {bound})::INT" for bound in BOUNDS)
    rows = duckdb.execute(
        f"""
        SELECT cluster, coalesce(tenant, ''), coalesce(service, ''), name, upper(kind), upper(status),
               (epoch_ns(end_time) // 1_000_000_000 // {SECONDS} + 1) * {SECONDS}, {bucket} AS bucket,
               count(*), sum(greatest(duration_ns, 0))::BIGINT
        FROM read_parquet($1) GROUP BY ALL
        """,
        [f"{lake}/spans/**/*.parquet"],
    ).fetchall()
    series: dict[str, dict] = {}
    for cluster, tenant, service, name, kind, status, time, at, count, nanos in rows:
        labels = {
            "service": service,
            "span_name": name,
            "span_kind": f"SPAN_KIND_{kind}",
            "status_code": f"STATUS_CODE_{status}",
        }
        told = ",".join(f"{label}={value}" for label, value in labels.items() if value)
        entry = series.setdefault(
            f"{cluster}/{tenant}/{{{told}}} @{time}", {"counts": [0] * (len(BOUNDS) + 1), "nanos": 0}
        )
        entry["counts"][at] += count
        entry["nanos"] += nanos
    print(json.dumps(series))


main(*sys.argv[1:])
