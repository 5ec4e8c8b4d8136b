"""A small shop in Flask that instruments itself, visits itself and leaves: flask_app.py grpc|http ENDPOINT EXPECTATION

Flask, requests and logging are instrumented automatically; one span is made by hand, with attributes of every type,
events, links and a recorded exception. Everything goes to ENDPOINT over the protocol named. EXPECTATION becomes a JSON
file of what the SDK handed to its exporters, in the columns of the lake (see expectation.py), to compare with what was
stored.
"""

import logging
import sys
import threading

import flask
import requests
from expectation import Recorder
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.logging import LoggingInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from werkzeug.serving import make_server

app = flask.Flask("shop")
log = logging.getLogger("shop")
tracer = trace.get_tracer("shop.prices", "1.2.3")


@app.route("/cart/<cart>")
def show_cart(cart: str):
    log.info("cart %s was asked for", cart, extra={"cart.id": cart, "cart.items": 3, "cart.gift": True})
    stock = requests.get(f"{flask.request.host_url}stock/telescope", params={"cart": cart}, timeout=10).json()
    return {"cart": cart, "total": price(stock["left"])}


@app.route("/stock/<product>")
def stock(product: str):
    return {"product": product, "left": 7}


@app.route("/broken")
def broken():
    raise ValueError("this page is broken on purpose: naïve 漢字 \"quoted\"")


def price(items: int) -> float:
    """The span made by hand."""
    elsewhere = SpanContext(
        trace_id=0x0AF7651916CD43DD8448EB211C80319C,
        span_id=0xB7AD6B7169203331,
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState([("shop", "other"), ("vendor", "x1")]),
    )
    links = [Link(elsewhere, {"why": "an earlier visit"}), Link(trace.get_current_span().get_span_context())]
    with tracer.start_as_current_span("price cart", kind=SpanKind.INTERNAL, links=links) as span:
        span.set_attributes(
            {
                "text": "naïve 漢字 🛒 \"quoted\" \\ and\ttabbed",
                "text.empty": "",
                "flag.yes": True,
                "flag.no": False,
                "int": 42,
                "int.negative": -7,
                "int.max": 2**63 - 1,
                "double": 0.1,
                "double.whole": 3.0,
                "texts": ["a", "b \"c\""],
                "flags": [True, False],
                "ints": [1, -2, 3],
                "doubles": [0.5, 2.25],
                "none.at.all": [],
            }
        )
        span.add_event("discount", {"percent": 12.5, "codes": ["SPRING", "STARS"], "stacks": False})
        span.add_event("bare")
        try:
            raise LookupError("no price for telescope")
        except LookupError as error:
            span.record_exception(error, {"attempt": 1})
            span.set_status(Status(StatusCode.ERROR, "price was guessed"))
            log.exception("price was guessed")
        return items * 99.5


def visit(base: str) -> None:
    with tracer.start_as_current_span("visit"):
        assert requests.get(f"{base}/cart/c-17", timeout=10).status_code == 200
        assert requests.get(f"{base}/broken", timeout=10).status_code == 500
        assert requests.get(f"{base}/nowhere", timeout=10).status_code == 404
        log.warning("the visit is over")
    log.debug("outside of every span")


def exporters(protocol: str, endpoint: str):
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint, insecure=True), OTLPLogExporter(endpoint, insecure=True)
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(f"{endpoint}/v1/traces"), OTLPLogExporter(f"{endpoint}/v1/logs")


def main(protocol: str, endpoint: str, expectation: str) -> None:
    resource = Resource.create(
        {
            "service.name": f"flask-{protocol}",
            "service.version": "0.1.0",
            "k8s.cluster.name": "python-peers",
            "k8s.namespace.name": "shop",
            "k8s.pod.name": "flask-5d8f7c9b6-x2x4z",
            "k8s.node.name": "node-1",
            "replicas": 2,
        }
    )
    spans, logs = exporters(protocol, endpoint)
    recorder = Recorder()
    traces = TracerProvider(resource=resource)
    traces.add_span_processor(SimpleSpanProcessor(recorder.spans))
    traces.add_span_processor(BatchSpanProcessor(spans))
    trace.set_tracer_provider(traces)
    records = LoggerProvider(resource=resource)
    records.add_log_record_processor(SimpleLogRecordProcessor(recorder.logs))
    records.add_log_record_processor(BatchLogRecordProcessor(logs))
    set_logger_provider(records)

    FlaskInstrumentor().instrument_app(app)
    RequestsInstrumentor().instrument()
    LoggingInstrumentor().instrument()
    log.setLevel(logging.DEBUG)

    server = make_server("127.0.0.1", 0, app, threaded=True)
    # A span of the server may end after its response was read: closing waits for the threads that answer.
    server.daemon_threads = False
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        visit(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
    flushed = traces.force_flush(20_000) and records.force_flush(20_000)
    traces.shutdown()
    records.shutdown()
    recorder.write(expectation)
    if not flushed:
        raise SystemExit(f"{endpoint} did not take everything within 20 s")


main(*sys.argv[1:])
