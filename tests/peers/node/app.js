// A small HTTP service that instruments itself, visits itself and leaves: app.js ENDPOINT EXPECTATION
//
// The http module is instrumented automatically; one span is made by hand, with attributes of every type, events,
// links and a recorded exception. Spans go to ENDPOINT/v1/traces as OTLP/JSON. EXPECTATION becomes a JSON file of what
// the SDK handed to its exporters, in the columns of the lake, as expectation.py in the folder of the Python peers
// describes them.

'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const { context, trace, SpanKind, SpanStatusCode, TraceFlags, createTraceState } = require('@opentelemetry/api');
const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-http');
const { registerInstrumentations } = require('@opentelemetry/instrumentation');
const { HttpInstrumentation } = require('@opentelemetry/instrumentation-http');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { BatchSpanProcessor, NodeTracerProvider, SimpleSpanProcessor } = require('@opentelemetry/sdk-trace-node');

const [endpoint, expectation] = process.argv.slice(2);

const nanos = ([seconds, rest]) => BigInt(seconds) * 1_000_000_000n + BigInt(rest);
const attributeText = (value) => (typeof value === 'string' ? value : JSON.stringify(value));
const attributes = (values) =>
  Object.fromEntries(Object.entries(values ?? {}).map(([key, value]) => [key, attributeText(value)]));
const state = (spanContext) => spanContext.traceState?.serialize() || null;

// One span in the columns of the lake.
const row = (span) => {
  const resource = span.resource.attributes;
  const [start, end] = [nanos(span.startTime), nanos(span.endTime)];
  return {
    trace_id: span.spanContext().traceId,
    span_id: span.spanContext().spanId,
    parent_span_id: span.parentSpanContext?.spanId ?? null,
    trace_state: state(span.spanContext()),
    name: span.name,
    kind: SpanKind[span.kind].toLowerCase(),
    start_time: String(start),
    end_time: String(end),
    duration_ns: Number(end - start),
    status: SpanStatusCode[span.status.code].toLowerCase(),
    status_message: span.status.message ?? null,
    service: resource['service.name'],
    namespace: resource['k8s.namespace.name'],
    pod: resource['k8s.pod.name'],
    scope_name: span.instrumentationScope.name,
    scope_version: span.instrumentationScope.version ?? null,
    resource_attributes: attributes(resource),
    attributes: attributes(span.attributes),
    events: span.events.map((event) => ({
      name: event.name,
      time: String(nanos(event.time)),
      attributes: attributes(event.attributes),
    })),
    links: span.links.map((link) => ({
      trace_id: link.context.traceId,
      span_id: link.context.spanId,
      trace_state: state(link.context),
      attributes: attributes(link.attributes),
    })),
    dropped_attributes_count: span.droppedAttributesCount,
    dropped_events_count: span.droppedEventsCount,
    dropped_links_count: span.droppedLinksCount,
  };
};

const seen = [];
const recorder = {
  export(spans, done) {
    seen.push(...spans.map(row));
    done({ code: 0 });
  },
  shutdown: async () => {},
};

const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({
    'service.name': 'node-http-json',
    'service.version': '0.1.0',
    'k8s.namespace.name': 'shop',
    'k8s.pod.name': 'node-7c6b5d4f8-q9w8e',
    'process.pid': process.pid,
    debug: false,
  }),
  spanProcessors: [
    new SimpleSpanProcessor(recorder),
    new BatchSpanProcessor(new OTLPTraceExporter({ url: `${endpoint}/v1/traces` })),
  ],
});
provider.register();
// Before http is loaded. Its exporter's own requests are not traced: the SDK suppresses that.
registerInstrumentations({ tracerProvider: provider, instrumentations: [new HttpInstrumentation()] });
const http = require('node:http');

const tracer = trace.getTracer('shop.prices', '1.2.3');

// The span made by hand.
const price = (items) => {
  const elsewhere = {
    traceId: '0af7651916cd43dd8448eb211c80319c',
    spanId: 'b7ad6b7169203331',
    traceFlags: TraceFlags.SAMPLED,
    isRemote: true,
    traceState: createTraceState('shop=other,vendor=x1'),
  };
  const links = [{ context: elsewhere, attributes: { why: 'an earlier visit' } }];
  return tracer.startActiveSpan('price cart', { kind: SpanKind.PRODUCER, links }, (span) => {
    span.setAttributes({
      text: 'naïve 漢字 🛒 "quoted" \\ and\ttabbed',
      'text.empty': '',
      'flag.yes': true,
      'flag.no': false,
      int: 42,
      'int.negative': -7,
      'int.large': 2 ** 53 - 1,
      double: 0.1,
      texts: ['a', 'b "c"'],
      flags: [true, false],
      ints: [1, -2, 3],
      doubles: [0.5, 2.25],
    });
    span.addEvent('discount', { percent: 12.5, codes: ['SPRING', 'STARS'], stacks: false });
    span.addEvent('bare');
    span.recordException(new RangeError('no price for telescope'));
    span.setStatus({ code: SpanStatusCode.ERROR, message: 'price was guessed' });
    span.end();
    return items * 99.5;
  });
};

const server = http.createServer((request, response) => {
  response.statusCode = request.url.startsWith('/broken') ? 500 : 200;
  response.end(JSON.stringify({ total: request.url.startsWith('/cart') ? price(7) : null }));
});

const get = (path) =>
  new Promise((resolve, reject) => {
    const request = http.get({ port: server.address().port, path, agent: false }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode));
    });
    request.on('error', reject);
  });

const main = async () => {
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const visit = tracer.startSpan('visit');
  await context.with(trace.setSpan(context.active(), visit), async () => {
    assert.strictEqual(await get('/cart/c-17?gift=yes'), 200);
    assert.strictEqual(await get('/broken'), 500);
  });
  visit.end();
  // Closing waits for the responses, so that no span ends later.
  await new Promise((resolve) => server.close(resolve));
  await provider.forceFlush();
  await provider.shutdown();
  fs.writeFileSync(expectation, JSON.stringify({ spans: seen, logs: [] }, null, 1));
};

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
