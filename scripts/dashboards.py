#!/usr/bin/env python3
"""Writes the Grafana dashboards of deploy/grafana/dashboards. With --check, says whether they are what this writes.

Metric and label names are those of docs/metrics.md and docs/span-metrics.md, labels and structured metadata of lines
those of docs/loki.md. Data sources are named by the uids of deploy/grafana/provisioning/datasources/afflux.yaml.
"""

import json
import re
import sys
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboards"

# Of Grafana 12. Later ones migrate it when they load it.
SCHEMA_VERSION = 41
PROMETHEUS, LOKI, TEMPO = ({"type": kind, "uid": kind} for kind in ("prometheus", "loki", "tempo"))

# A derived series that does not change has a sample every two minutes. With a minimal step of a minute,
# $__rate_interval is four minutes at least, so that such a series is shown as zero rather than not at all.
DERIVED_STEP = "1m"

# Spans that stand for a request that a service has answered.
SERVED = 'span_kind=~"SPAN_KIND_SERVER|SPAN_KIND_CONSUMER"'


# Queries. Unless a legend is given, it is the values of the labels that are grouped by.

def query(datasource, expr, legend, **more):
    grouped = re.search(r" by \(([^)]*)\)", expr)
    labels = [label for label in grouped[1].split(", ") if label != "le"] if grouped else []
    legend = legend or " ".join(f"{{{{{label}}}}}" for label in labels)
    return {"datasource": datasource, "expr": expr, "legendFormat": legend, **more}


def own(expr, legend="", **more):
    """For what Afflux says about itself."""
    return query(PROMETHEUS, expr, legend, **more)


def derived(expr, legend="", **more):
    """For derived series."""
    return own(expr, legend, interval=DERIVED_STEP, **more)


def at_end(asked):
    """The same, once, at the end of the range, as rows of a table."""
    return {**asked, "instant": True, "range": False, "format": "table"}


def lines(expr, kind="range"):
    """For lines in Loki."""
    return query(LOKI, expr, "", queryType=kind)


# Panels

def panel(kind, title, width, height, description, targets, unit="short", options=None, **more):
    defaults = {"unit": unit, **more.pop("defaults", {})}
    return {
        "type": kind, "title": title, "description": description, "datasource": targets[0]["datasource"],
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": more.pop("overrides", [])},
        "options": options or {},
        "targets": [{"refId": chr(65 + at), **target} for at, target in enumerate(targets)],
        **more,
    }


def chart(title, description, *targets, unit="none", width=12, stacked=False, bars=False):
    custom = {"showPoints": "never", "fillOpacity": 60 if bars else 25 if stacked else 5, "lineWidth": 1}
    custom |= {"drawStyle": "bars" if bars else "line", "stacking": {"mode": "normal" if stacked or bars else "none"}}
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    defaults = {"custom": custom, "min": 0}
    return panel("timeseries", title, width, 8, description, targets, unit, options, defaults=defaults)


def stat(title, description, target, unit="none", steps=(), width=6):
    """A number; `steps` are the values from which it is yellow and red, or red if there is one."""
    colours = zip(("yellow", "red")[-len(steps):], steps) if steps else ()
    steps = [{"color": "green", "value": None}, *({"color": colour, "value": value} for colour, value in colours)]
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value" if steps[1:] else "none"}
    options["graphMode"] = "none" if target.get("instant") else "area"
    defaults = {"thresholds": {"mode": "absolute", "steps": steps}, "noValue": "0"}
    return panel("stat", title, width, 4, description, [target], unit, options, defaults=defaults)


def table(title, description, targets, columns, sort, width=12, height=9):
    """Rows by labels. `columns` are (field, name, unit). The numbers of queries are the fields `Value #A` and so on;
    only that of a single one to Prometheus is `Value`."""
    organize = {"excludeByName": {"Time": True}, "indexByName": {column[0]: at for at, column in enumerate(columns)}}
    organize["renameByName"] = {column[0]: column[1] for column in columns}
    steps = {"merge": {}, "organize": organize, "sortBy": {"sort": [{"field": sort, "desc": True}]}}
    overrides = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit[0]}]}
        for _, name, *unit in columns if unit
    ]
    return panel("table", title, width, height, description, targets, overrides=overrides,
                 transformations=[{"id": step, "options": options} for step, options in steps.items()])


def logs(title, description, expr, height):
    options = {"showTime": True, "wrapLogMessage": True, "enableLogDetails": True, "sortOrder": "Descending"}
    return panel("logs", title, 24, height, description, [lines(expr)], options=options)


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}}


# Variables

def variable(name, label, datasource, asked, every):
    """A list to choose from; `every` is what stands for all."""
    return {
        "type": "query", "name": name, "label": label, "datasource": datasource, "refresh": 2, "sort": 1,
        "query": {"type": 1, "qryType": 1, "refId": "variable", **asked},
        "multi": True, "includeAll": True, "allValue": every, "current": {"text": ["All"], "value": ["$__all"]},
    }


def of_series(name, label, metric):
    return variable(name, label, PROMETHEUS, {"query": f"label_values({metric}, {name})"}, ".*")


def of_lines(name, label, selector="", every=".*"):
    return variable(name, label, LOKI, {"label": name, "stream": selector}, every)


# Dashboards

def kubernetes_events():
    counted = 'k8s_events_total{cluster=~"$cluster", namespace=~"$namespace", category=~"$category"}'
    warned = counted.replace("}", ', type="Warning"}')
    said = '{source="k8s-events", cluster=~"$cluster", namespace=~"$namespace"} | event_name="k8s.event"'
    said += ' | k8s_event_category=~"$category"'
    gaps = '{source="k8s-events", cluster=~"$cluster"} | event_name="k8s.event.gap" | json message="message"'

    def per_minute(metric, by):
        return derived(f"sum by ({by}) (rate({metric}[$__rate_interval])) * 60")

    def within(metric):
        return at_end(own(f"sum(increase({metric}[$__range])) or vector(0)"))

    def top(labels, more=""):
        return lines(f"topk(20, sum by ({labels}) (count_over_time({said}{more} [$__range])))", "instant")

    taken = 'reason="reason", kind="involvedObject.kind", name="involvedObject.name", message="message"'
    return dashboard("afflux-kubernetes-events", "Kubernetes events", [
        stat("Events", "Observations of events within the range of time.", within(counted)),
        stat("Warnings", "Those of type Warning.", within(warned)),
        stat("Clusters", "Clusters that the events are of.", at_end(derived(f"count(count by (cluster) ({counted}))"))),
        stat("Gaps", "How often an API server did not remember how far it had been read: events may be missing.",
             within('afflux_cluster_watches_total{outcome="gap"}'), steps=(1,)),
        chart("Timeline", "Events by how bad they are, as lines in Loki.",
              lines(f"sum by (level) (count_over_time({said} [$__auto]))"), width=24, bars=True),
        chart("By category", "What events are about, as the step `classify` tells: events per minute.",
              per_minute(counted, "category"), stacked=True),
        chart("Warnings per cluster", "Warnings per minute.", per_minute(warned, "cluster")),
        table("Top objects", "Objects with the most events.",
              [top("cluster, namespace, k8s_object_kind, k8s_object_name")],
              [("cluster", "Cluster"), ("namespace", "Namespace"), ("k8s_object_kind", "Kind"),
               ("k8s_object_name", "Object"), ("Value #A", "Events", "none")], "Events"),
        table("Top reasons of warnings", "Reasons of warnings, and what they are about.",
              [top("k8s_event_reason, k8s_event_category", ' | k8s_event_type="Warning"')],
              [("k8s_event_reason", "Reason"), ("k8s_event_category", "Category"), ("Value #A", "Warnings", "none")],
              "Warnings"),
        logs("Events", "A line in Loki is the event's JSON; this is what `kubectl get events` shows of it.",
             f"{said} | json {taken}" + " | line_format `{{.reason}} {{.kind}}/{{.name}}: {{.message}}`", 10),
        logs("Gaps", "Times of which events may be missing.", gaps + " | line_format `{{.message}}`", 5),
    ], [of_series("cluster", "Cluster", "k8s_events_total"),
        of_series("namespace", "Namespace", 'k8s_events_total{cluster=~"$cluster"}'),
        of_series("category", "Category", 'k8s_events_total{cluster=~"$cluster"}')])


def services():
    chosen = f'cluster=~"$cluster", service=~"$service", {SERVED}'
    calls = f"traces_spanmetrics_calls_total{{{chosen}}}"
    failed = f'traces_spanmetrics_calls_total{{{chosen}, status_code="STATUS_CODE_ERROR"}}'
    bucket = f"traces_spanmetrics_latency_bucket{{{chosen}}}"

    def rate(metric, by="", window="$__rate_interval"):
        return f"sum{f' by ({by}) ' if by else ''}(rate({metric}[{window}]))"

    def quantile(share, by="", window="$__rate_interval"):
        return f"histogram_quantile({share}, {rate(bucket, f'le, {by}' if by else 'le', window)})"

    def errors(*of):
        # The series of errors begins with the first one; until then the share is zero.
        return f"({rate(failed, *of)} or 0 * {rate(calls, *of)}) / {rate(calls, *of)}"

    operation = ("cluster, service, span_name", "$__range")
    return dashboard("afflux-services", "Services: rate, errors, duration", [
        stat("Requests", "Requests that the chosen services answered, per second.", derived(rate(calls)), "reqps"),
        stat("Errors", "Share whose span has the status error.", derived(errors()), "percentunit", (0.01, 0.05)),
        stat("Median", "Half of the requests took no longer.", derived(quantile(0.5)), "s"),
        stat("95th percentile", "95 of 100 requests took no longer.", derived(quantile(0.95)), "s"),
        chart("Rate", "Requests per second, by service.", derived(rate(calls, "service")), unit="reqps"),
        chart("Errors", "Share of requests with errors, by service.", derived(errors("service")), unit="percentunit"),
        chart("Duration", "Percentiles over all chosen services. Points are exemplars: each leads to its trace.",
              *(derived(quantile(share), f"{share:.0%}", exemplar=share == 0.95) for share in (0.5, 0.95, 0.99)),
              unit="s"),
        chart("95th percentile by service", "Of durations.", derived(quantile(0.95, "service")), unit="s"),
        panel("heatmap", "Durations", 24, 9, "How many requests took how long.",
              [derived(f"sum by (le) (increase({bucket}[$__rate_interval]))", "{{le}}", format="heatmap")],
              options={"calculate": False, "yAxis": {"unit": "s"}, "color": {"mode": "scheme", "scheme": "Blues"}}),
        table("Operations", "Each operation of the chosen services, over the range of time.",
              [at_end(derived(rate(calls, *operation))), at_end(derived(errors(*operation))),
               at_end(derived(quantile(0.95, *operation)))],
              [("cluster", "Cluster"), ("service", "Service"), ("span_name", "Operation"),
               ("Value #A", "Requests", "reqps"), ("Value #B", "Errors", "percentunit"),
               ("Value #C", "95th percentile", "s")], "Requests", 24, 12),
    ], [of_series("cluster", "Cluster", "traces_spanmetrics_calls_total"),
        of_series("service", "Service", 'traces_spanmetrics_calls_total{cluster=~"$cluster"}')])


def service_graph():
    chosen = '{cluster=~"$cluster"}'
    total, failed = (f"traces_service_graph_request_{name}{chosen}" for name in ("total", "failed_total"))
    pair, edge = "client, server", "cluster, client, server, connection_type"

    def rate(metric, by=pair, window="$__rate_interval"):
        return f"sum by ({by}) (rate({metric}[{window}]))"

    def p95(side, by=pair, window="$__rate_interval"):
        bucket = f"traces_service_graph_request_{side}_seconds_bucket{chosen}"
        return f"histogram_quantile(0.95, {rate(bucket, f'le, {by}', window)})"

    def arrows(title, description, expr, unit):
        return chart(title, description, derived(expr, "{{client}} → {{server}}"), unit=unit)

    graph = {"datasource": TEMPO, "queryType": "serviceMap", "serviceMapQuery": '{cluster=~"${cluster:regex}"}'}
    whole = (edge, "$__range")
    edges = (rate(total, *whole), f"{rate(failed, *whole)} / {rate(total, *whole)}", p95("client", *whole),
             p95("server", *whole))
    abroad = rate(total.replace("}", ', client_cluster!=""}'), f"client_cluster, server_cluster, {pair}", "$__range")
    return dashboard("afflux-service-graph", "Service graph", [
        panel("nodeGraph", "Who calls whom", 24, 16, "Services and what they call, with the share of errors. The data "
              "source Tempo draws them from the series in Prometheus.", [graph]),
        arrows("Requests", "Requests per second.", rate(total), "reqps"),
        arrows("Failed requests", "Those of which either span has the status error.", rate(failed), "reqps"),
        arrows("As the client sees it", "95th percentile of the clients' spans.", p95("client"), "s"),
        arrows("As the server sees it", "95th percentile of the servers' spans. The rest is network and queues.",
               p95("server"), "s"),
        table("Edges", "A plain request has no type of connection; a virtual node sends no spans.",
              [at_end(derived(expr)) for expr in edges],
              [("cluster", "Cluster"), ("client", "Client"), ("server", "Server"), ("connection_type", "Connection"),
               ("Value #A", "Requests", "reqps"), ("Value #B", "Failed", "percentunit"),
               ("Value #C", "Client p95", "s"), ("Value #D", "Server p95", "s")], "Requests", 24, 12),
        table("Between clusters", "Client and server are in different clusters.", [at_end(derived(abroad))],
              [("client_cluster", "From cluster"), ("client", "Client"), ("server_cluster", "To cluster"),
               ("server", "Server"), ("Value", "Requests", "reqps")], "Requests", 24),
    ], [of_series("cluster", "Cluster", "traces_service_graph_request_total")])


def logs_overview():
    chosen = '{source=~"$source", cluster=~"$cluster", namespace=~"$namespace", app=~"$app", level=~"$level"}'
    found = chosen + " |~ `(?i)$search`"
    bad = chosen.replace("}", ', level=~"error|fatal"}')
    search = {"type": "textbox", "name": "search", "label": "Search", "current": {"text": "", "value": ""}}

    def records(by):
        return derived(f'sum by ({by}) (rate(logs_records_total{{cluster=~"$cluster"}}[$__rate_interval]))')

    return dashboard("afflux-logs", "Logs", [
        chart("Volume", "Lines by level.", lines(f"sum by (level) (count_over_time({found} [$__auto]))"), width=24,
              bars=True),
        chart("Records by service", "Log records per second as Afflux counts them, whatever Loki has taken.",
              records("service"), unit="cps", stacked=True),
        chart("Records by severity", "The same by severity.", records("severity"), unit="cps", stacked=True),
        chart("Bytes", "Bytes of lines per second, by application.",
              lines(f"sum by (app) (bytes_rate({chosen} [$__auto]))"), unit="Bps", stacked=True),
        table("Errors", "Applications with the most lines of level error or fatal.",
              [lines(f"topk(20, sum by (cluster, namespace, app) (count_over_time({bad} [$__range])))", "instant")],
              [("cluster", "Cluster"), ("namespace", "Namespace"), ("app", "Application"),
               ("Value #A", "Lines", "none")], "Lines", height=8),
        logs("Lines", "The newest lines. One that has a trace id leads to the trace.", found, 16),
    ], [of_lines("source", "Source", every=".+"), of_lines("cluster", "Cluster"),
        # Loki refuses a selector that might choose everything.
        of_lines("namespace", "Namespace", '{source=~".+", cluster=~"$cluster"}'),
        of_lines("app", "Application", '{source=~".+", cluster=~"$cluster"}'), of_lines("level", "Level"), search])


def afflux():
    def of(name):
        return f'afflux_{name}{{instance=~"$instance"}}'

    def rate(name, by):
        return f"sum by ({by}) (rate({of(name)}[$__rate_interval]))"

    def total(name):
        return at_end(own(f"sum(increase({of(name)}[$__range])) or vector(0)"))

    def rates(title, name, by, description, unit="cps"):
        return chart(title, description, own(rate(name, by)), unit=unit)

    def gauge(title, name, how, by, description, unit="none"):
        return chart(title, description, own(f"{how} by ({by}) ({of(name)})"), unit=unit)

    unwelcome = (own(rate(f"{what}_total", "component, reason"), what.split("_")[0] + ": {{component}} {{reason}}")
                 for what in ("refused_requests", "dropped_items", "changed_items"))
    age = own(f"histogram_quantile(0.95, {rate('delivery_age_seconds_bucket', 'le, component')})")
    return dashboard("afflux", "Afflux", [
        stat("Up", "Processes that answer Prometheus.", own('sum(up{job="afflux", instance=~"$instance"})'), width=4),
        stat("Lag", "Age of the oldest record not settled.", own(f"max({of('lag_seconds')})"), "s", (60, 300), 4),
        stat("Freshness", "Age of the newest record of the backend that is furthest behind.",
             own(f"max({of('freshness_seconds')})"), "s", (120, 600), 4),
        stat("Dead letters", "Records that could not be delivered.", total("dead_letters_total"), "none", (1,), 4),
        stat("Expired", "Records that retention took unread: lost.", total("expired_records_total"), "none", (1,), 4),
        stat("Blocked", "Sinks whose backend refuses whatever it is sent.",
             own(f"sum({of('blocked')}) or vector(0)"), "none", (1,), 4),
        row("Rates"),
        rates("Accepted", "accepted_items_total", "component, signal", "Items taken in, after the bus had them."),
        rates("Settled", "settled_items_total", "component, signal", "Items that processors and sinks have finished."),
        rates("Accepted bytes", "accepted_bytes_total", "component, signal", "Bytes taken in, uncompressed.", "Bps"),
        chart("Refused, dropped, changed", "Requests answered with an error; items left out on purpose; items changed "
              "to fit the limits of a backend.", *unwelcome, unit="cps"),
        row("Lag and freshness"),
        gauge("Lag", "lag_seconds", "max", "component, topic", "Age of the oldest record that is not settled.", "s"),
        gauge("Lag in records", "lag_records", "sum", "component, topic", "Records that are not settled."),
        gauge("Freshness", "freshness_seconds", "max", "component, signal",
              "Age of the newest record that a backend has. It also grows where nothing comes in.", "s"),
        chart("Age at delivery", "95th percentile of records when a backend acknowledged them.", age, unit="s"),
        gauge("Age of the watermark", "watermark_age_seconds", "max", "component, topic",
              "How long the oldest record that was read has been waiting to be settled.", "s"),
        rates("Retries", "retries_total", "component, reason", "Attempts that failed and are made again."),
        row("What could not be delivered"),
        rates("Dead letters", "dead_letters_total", "component, reason", "`afflux dead-letters list` shows them."),
        rates("Expired records", "expired_records_total", "component, topic", "What retention took unread: lost."),
        row("Transactions"),
        rates("Transactions", "transactions_total", "component, outcome", "Of processors, by how they ended."),
        rates("Commits", "commits_total", "component, outcome", "Of sinks, by how they ended."),
        rates("Partitions that came and went", "rebalanced_partitions_total", "component, outcome", "By rebalances."),
        gauge("Suspended partitions", "suspended_partitions", "sum", "component", "Those whose output takes nothing."),
        row("Memory and files"),
        gauge("Bytes in flight", "in_flight_bytes", "sum", "component, signal", "Budgets bound them.", "bytes"),
        gauge("Series", "active_series", "sum", "topic", "Series that `processors.accumulate` keeps in memory."),
        rates("Bytes of files", "file_bytes_written_total", "component, signal", "Parquet that was completed.", "Bps"),
        rates("Files", "files_written_total", "component, signal", "Files that were completed."),
        row("Steps and sources"),
        rates("Steps", "step_items_total", "signal, step", "Items that came to each step of the chains."),
        rates("Outcomes of steps", "step_outcomes_total", "step, reason", "What steps did with items, or found."),
        gauge("Sources", "source_up", "min", "component, source", "Whether clusters that are read answer: 1, or 0."),
        rates("Watches of Kubernetes", "cluster_watches_total", "outcome", "Lists and watches by their ends; gaps."),
    ], [of_series("instance", "Instance", 'up{job="afflux"}')])


def dashboard(uid, title, panels, variables):
    """Places the panels from left to right, in lines of 24 columns, and numbers them."""
    x = y = height = 0
    for number, shown in enumerate(panels, 1):
        place = shown["gridPos"]
        if x + place["w"] > 24:
            x, y, height = 0, y + height, 0
        place |= {"x": x, "y": y}
        x, height = x + place["w"], max(height, place["h"])
        shown["id"] = number
    links = {"type": "dashboards", "title": "Afflux", "tags": ["afflux"], "asDropdown": True, "keepTime": True}
    return {
        "uid": uid, "title": title, "tags": ["afflux"], "schemaVersion": SCHEMA_VERSION, "editable": False,
        "graphTooltip": 1, "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
        "links": [links], "annotations": {"list": []}, "templating": {"list": variables}, "panels": panels,
    }


def text(board):
    """JSON with a line for each property of the dashboard and of each panel, so that changes can be read."""
    def properties(value, between):
        return between.join(f"{json.dumps(key)}: {json.dumps(part, ensure_ascii=False)}" for key, part in value.items())

    panels = ",\n".join("  {\n   " + properties(shown, ",\n   ") + "\n  }" for shown in board["panels"])
    rest = properties({key: value for key, value in board.items() if key != "panels"}, ",\n ")
    return "{\n " + rest + ',\n "panels": [\n' + panels + "\n ]\n}\n"


def main(arguments):
    if arguments not in ([], ["--check"]):
        sys.exit("usage: dashboards.py [--check]")
    boards = [kubernetes_events(), services(), service_graph(), logs_overview(), afflux()]
    files = {OUT / f"{board['uid']}.json": text(board) for board in boards}
    strays = set(OUT.glob("*.json")) - set(files)
    if arguments:
        wrong = strays | {path for path in files if not path.is_file() or path.read_text("utf-8") != files[path]}
        for path in sorted(wrong):
            print(f"{path.name} is not what scripts/dashboards.py writes; run it", file=sys.stderr)
        sys.exit(1 if wrong else 0)
    for path in strays:
        path.unlink()
    for path, wanted in files.items():
        path.write_text(wanted, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
