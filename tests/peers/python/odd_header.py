"""Writes one record with a header whose name is no UTF-8: odd_header.py BROKERS TOPIC VALUE_IN_HEX

confluent_kafka takes text only, so this calls the librdkafka that it brings.
"""

import ctypes
import glob
import os
import sys

import confluent_kafka

TOPIC, PARTITION, VALUE, HEADERS, END = 1, 3, 4, 10, 0


def library() -> ctypes.CDLL:
    folder = os.path.dirname(os.path.dirname(confluent_kafka.__file__))
    (path,) = glob.glob(os.path.join(folder, "confluent_kafka.libs", "librdkafka*.so*"))
    lib = ctypes.CDLL(path)
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(lib, name).restype = ctypes.c_void_p
    return lib


def main(brokers: str, topic: str, value: bytes) -> None:
    lib = library()
    reason = ctypes.create_string_buffer(512)
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    conf = pointer(lib.rd_kafka_conf_new())
    if lib.rd_kafka_conf_set(conf, b"bootstrap.servers", brokers.encode(), reason, size(512)):
        raise SystemExit(reason.value.decode())
    producer = pointer(lib.rd_kafka_new(0, conf, reason, size(512)))
    headers = pointer(lib.rd_kafka_headers_new(size(2)))
    for name, text in ((b"\xff\xfe", b"odd"), (b"afflux-cluster", b"odd-header")):
        lib.rd_kafka_header_add(headers, name, size(len(name)), text, size(len(text)))
    arguments = (TOPIC, topic.encode(), PARTITION, 0, VALUE, value, size(len(value)), HEADERS, headers, END)
    error = lib.rd_kafka_producev(producer, *arguments) or lib.rd_kafka_flush(producer, 30_000)
    if error:
        raise SystemExit(f"librdkafka error {error}")
    lib.rd_kafka_destroy(producer)


main(sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]))
