"""Counts the requests between services in a lake with DuckDB, as the service graph should: service_graph.py LAKE

A client's or producer's span and the first server's or consumer's span whose parent it is are a request; so is a client's
span by itself that names a database. Copies of a span, as clients send again what was not acknowledged, count once. Prints one JSON object: by client, server and type of connection, how many requests
there were, how many of them failed, and the sums of the durations of both sides in nanoseconds. Halves without a
counterpart are left out: what they become depends on when they were received. Of a message that several receive, one
is told, whichever came first: only their number is told, with `any` as the server.
"""

import json
import sys

import duckdb

DATABASE = ["db.namespace", "db.name", "db.system", "db.system.name"]


def main(lake: str) -> None:
    attribute = lambda name: f"element_at(attributes, '{name}')[1]"
    either = lambda name: f"coalesce(element_at(resource_attributes, '{name}')[1], {attribute(name)})"
    database = f"coalesce({', '.join(either(name) for name in DATABASE)})"
    address = (
        f"{attribute('network.peer.address')} || "
        f"coalesce(':' || {attribute('network.peer.port')}, '')"
    )
    rows = duckdb.execute(
        f"""
        WITH spans AS (
            SELECT *, {database} AS database FROM read_parquet($1) WHERE service IS NOT NULL
            QUALIFY row_number() OVER (PARTITION BY trace_id, span_id, kind) = 1
        ),
        clients AS (SELECT * FROM spans WHERE kind IN ('client', 'producer')),
        servers AS (
            SELECT * FROM spans WHERE kind IN ('server', 'consumer')
            QUALIFY row_number() OVER (PARTITION BY trace_id, parent_span_id ORDER BY start_time) = 1
        ),
        requests AS (
            SELECT c.service AS client,
                   coalesce({attribute('peer.service')}, {attribute('server.address')}, {address}, database) AS server,
                   'database' AS connection, c.status = 'error' AS failed,
                   greatest(duration_ns, 0) AS server_ns, greatest(duration_ns, 0) AS client_ns
            FROM clients c WHERE kind = 'client' AND database IS NOT NULL
            UNION ALL
            SELECT c.service,
                   CASE WHEN c.kind = 'producer' OR s.kind = 'consumer' THEN 'any' ELSE s.service END,
                   CASE WHEN c.kind = 'producer' OR s.kind = 'consumer' THEN 'messaging_system' ELSE '' END,
                   c.status = 'error' OR s.status = 'error',
                   greatest(s.duration_ns, 0), greatest(c.duration_ns, 0)
            FROM clients c JOIN servers s ON s.trace_id = c.trace_id AND s.parent_span_id = c.span_id
            WHERE NOT (c.kind = 'client' AND c.database IS NOT NULL)
        )
        SELECT client, server, connection, count(*), sum(failed::INT)::BIGINT, sum(server_ns)::BIGINT,
               sum(client_ns)::BIGINT
        FROM requests GROUP BY ALL
        """,
        [f"{lake}/spans/**/*.parquet"],
    ).fetchall()
    edges = {}
    for client, server, connection, count, failed, server_nanos, client_nanos in rows:
        labels = f"client={client},server={server}" + (f",connection_type={connection}" if connection else "")
        edges[labels] = {"requests": count}
        if server != "any":
            edges[labels] |= {"failed": failed, "server": server_nanos, "client": client_nanos}
    print(json.dumps(edges))


main(*sys.argv[1:])
