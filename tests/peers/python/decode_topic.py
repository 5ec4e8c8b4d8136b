"""Decodes every committed record of a Kafka topic with OpenTelemetry's own protobuf classes: decode_topic.py BROKERS TOPIC

Prints one JSON object: the number of records, of spans or log records in them, of those that the afflux-items headers
name, and the service names.
"""

import json
import sys

from confluent_kafka import Consumer, TopicPartition
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def records(brokers: str, topic: str):
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "decode-topic",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    partitions = [TopicPartition(topic, p, 0) for p in consumer.list_topics(topic, 30).topics[topic].partitions]
    consumer.assign(partitions)
    open_partitions = len(partitions)
    while open_partitions:
        message = consumer.poll(30)
        if message is None:
            raise SystemExit(f"no answer from {brokers} within 30 s")
        if message.error():
            open_partitions -= 1
        else:
            yield message
    consumer.close()


def main(brokers: str, topic: str) -> None:
    logs = topic.endswith("logs")
    message_class = ExportLogsServiceRequest if logs else ExportTraceServiceRequest
    count = found = items = 0
    services = set()
    for message in records(brokers, topic):
        request = message_class.FromString(message.value())
        count += 1
        items += int(dict(message.headers())["afflux-items"])
        for block in request.resource_logs if logs else request.resource_spans:
            services.update(a.value.string_value for a in block.resource.attributes if a.key == "service.name")
            scopes = block.scope_logs if logs else block.scope_spans
            found += sum(len(scope.log_records if logs else scope.spans) for scope in scopes)
    print(json.dumps({"records": count, "items": found, "items_header": items, "services": sorted(services)}))


main(*sys.argv[1:])
