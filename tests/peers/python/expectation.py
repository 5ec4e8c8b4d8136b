"""What the SDK handed to its exporters, in the columns of the lake.

Values of attributes are text there: strings as they are, numbers and booleans as JSON writes them, sequences as JSON
without spaces. Times are nanoseconds, as text because they are too large for JSON's numbers.
"""

import base64
import json

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult


def text(value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    plain = list(value) if isinstance(value, tuple) else value
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def attributes(values) -> dict:
    return {key: text(value) for key, value in (values or {}).items()}


def span_id(number: int) -> str:
    return f"{number:016x}"


def trace_id(number: int) -> str:
    return f"{number:032x}"


def state(trace_state) -> str | None:
    return trace_state.to_header() or None if trace_state else None


def span(span) -> dict:
    return {
        "trace_id": trace_id(span.context.trace_id),
        "span_id": span_id(span.context.span_id),
        "parent_span_id": span_id(span.parent.span_id) if span.parent else None,
        "trace_state": state(span.context.trace_state),
        "name": span.name,
        "kind": span.kind.name.lower(),
        "start_time": str(span.start_time),
        "end_time": str(span.end_time),
        "duration_ns": span.end_time - span.start_time,
        "status": span.status.status_code.name.lower(),
        "status_message": span.status.description,
        "service": span.resource.attributes["service.name"],
        "cluster": span.resource.attributes["k8s.cluster.name"],
        "namespace": span.resource.attributes["k8s.namespace.name"],
        "pod": span.resource.attributes["k8s.pod.name"],
        "node": span.resource.attributes["k8s.node.name"],
        "scope_name": span.instrumentation_scope.name,
        "scope_version": span.instrumentation_scope.version or None,
        "resource_attributes": attributes(span.resource.attributes),
        "attributes": attributes(span.attributes),
        "events": [
            {"name": event.name, "time": str(event.timestamp), "attributes": attributes(event.attributes)}
            for event in span.events
        ],
        "links": [
            {
                "trace_id": trace_id(link.context.trace_id),
                "span_id": span_id(link.context.span_id),
                # Python's OTLP exporter leaves a link's trace state out.
                "trace_state": None,
                "attributes": attributes(link.attributes),
            }
            for link in span.links
        ],
        "dropped_attributes_count": span.dropped_attributes,
        "dropped_events_count": span.dropped_events,
        "dropped_links_count": span.dropped_links,
    }


def log(data) -> dict:
    record, resource = data.log_record, data.resource
    return {
        "time": str(record.timestamp or record.observed_timestamp),
        "observed_time": str(record.observed_timestamp),
        "severity_number": record.severity_number.value,
        "severity_text": record.severity_text,
        "body": text(record.body),
        "trace_id": trace_id(record.trace_id) if record.trace_id else None,
        "span_id": span_id(record.span_id) if record.span_id else None,
        "service": resource.attributes["service.name"],
        "cluster": resource.attributes["k8s.cluster.name"],
        "namespace": resource.attributes["k8s.namespace.name"],
        "pod": resource.attributes["k8s.pod.name"],
        "node": resource.attributes["k8s.node.name"],
        "scope_name": data.instrumentation_scope.name,
        "resource_attributes": attributes(resource.attributes),
        "attributes": attributes(record.attributes),
    }


class _Spans(SpanExporter):
    def __init__(self, into: list):
        self.into = into

    def export(self, spans):
        self.into.extend(span(one) for one in spans)
        return SpanExportResult.SUCCESS

    def shutdown(self):
        pass


class _Logs(LogRecordExporter):
    def __init__(self, into: list):
        self.into = into

    def export(self, batch):
        self.into.extend(log(one) for one in batch)
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis=None):
        return True

    def shutdown(self):
        pass


class Recorder:
    """Exporters that keep what they get, to be written down at the end."""

    def __init__(self):
        self._seen = {"spans": [], "logs": []}
        self.spans = _Spans(self._seen["spans"])
        self.logs = _Logs(self._seen["logs"])

    def write(self, path: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self._seen, file, ensure_ascii=False, indent=1)
