"""Recorded Kubernetes events, as if they happened now: kubernetes.py [--listen ADDRESS] [--speed N] [--rounds N] FILE

An API server that has nothing but events of core/v1: what `producers.kubernetes` asks of a real one, it can ask of this.
A line of FILE is {"after": SECONDS, "event": {…}}: an event as `kubectl get events -o json` shows it, and how long after
the beginning of the recording it was seen so. A uid that comes again is the same event with another count. The recording is
played again and again, each time with other uids and with times of now.

To record from a cluster, a second apart:

    kubectl get events -A -o json | jq -c '.items | to_entries[] | {after: .key, event: .value}'
"""

import argparse
import collections
import copy
import datetime
import json
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# The namespace by whose uid a cluster is known.
KUBE_SYSTEM = {
    "kind": "Namespace",
    "apiVersion": "v1",
    "metadata": {"name": "kube-system", "uid": "3d6a4f52-7c1e-4b0a-9a57-5d2f0c8e1b77"},
}
TIMES = ["firstTimestamp", "lastTimestamp", "eventTime"]
SECONDS, MICROS = "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ"
# As many changes are remembered; who asks for older ones is told so (410), and lists.
REMEMBERED = 500
# Seconds between the end of the recording and its next beginning.
PAUSE = 15.0


class Store:
    """What happened, in the order of resource versions, which go up from one start to the next, too."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.version = int(time.time() * 1000)
        self.forgotten = self.version
        self.changes: collections.deque[tuple[int, str, dict]] = collections.deque()
        self.events: collections.OrderedDict[str, dict] = collections.OrderedDict()

    def put(self, event: dict) -> None:
        uid = event["metadata"]["uid"]
        with self.changed:
            self.version = max(self.version + 1, int(time.time() * 1000))
            event["metadata"]["resourceVersion"] = str(self.version)
            self.changes.append((self.version, "MODIFIED" if uid in self.events else "ADDED", event))
            self.events[uid] = event
            # As a real one, whose events expire after an hour.
            while len(self.events) > REMEMBERED:
                self.events.popitem(last=False)
            while len(self.changes) > REMEMBERED:
                self.forgotten = self.changes.popleft()[0]
            self.changed.notify_all()

    def after(self, version: int, timeout: float) -> list[tuple[int, str, dict]]:
        with self.changed:
            self.changed.wait_for(lambda: self.version > version, timeout)
            return [change for change in self.changes if change[0] > version]


def play(store: Store, recording: list[dict], speed: float, rounds: int) -> None:
    for number in range(rounds):
        tag, begun, created = uuid.uuid4().hex[:10], time.monotonic(), {}
        for line in recording:
            time.sleep(max(0.0, begun + line["after"] / speed - time.monotonic()))
            now = datetime.datetime.now(datetime.timezone.utc)
            event = copy.deepcopy(line["event"])
            metadata = event["metadata"]
            recorded = metadata["uid"]
            first = created.setdefault(recorded, now)
            metadata["uid"] = str(uuid.uuid5(uuid.NAMESPACE_OID, tag + recorded))
            metadata["name"] = f"{metadata['name'].rsplit('.', 1)[0]}.{tag}{len(created):06x}"
            metadata["creationTimestamp"] = first.strftime(SECONDS)
            for field in TIMES:
                if event.get(field):
                    when = first if field == "firstTimestamp" else now
                    event[field] = when.strftime(MICROS if field == "eventTime" else SECONDS)
            if event.get("series"):
                event["series"]["lastObservedTime"] = now.strftime(MICROS)
            store.put(event)
        print(f"round {number + 1}: {len(recording)} observations", flush=True)
        time.sleep(PAUSE / speed)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, *_) -> None:
        pass

    def answer(self, what: dict, status: int = 200) -> None:
        body = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, code: int, reason: str, message: str) -> None:
        said = {"status": "Failure", "reason": reason, "message": message, "code": code}
        self.answer({"kind": "Status", "apiVersion": "v1", **said}, code)

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/readyz":
            return self.answer({})
        if url.path == "/api/v1/namespaces/kube-system":
            return self.answer(KUBE_SYSTEM)
        if url.path != "/api/v1/events":
            return self.refuse(404, "NotFound", "this server has events only")
        version = query.get("resourceVersion", "")
        if "watch" in query:
            return self.watch(int(version or 0), float(query.get("timeoutSeconds", "300")))
        # There are no lists of the past.
        if query.get("resourceVersionMatch") == "Exact" and int(version) != self.store.version:
            return self.refuse(410, "Expired", "too old resource version")
        with self.store.changed:
            items, version = list(self.store.events.values()), str(self.store.version)
        self.answer({"kind": "EventList", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items})

    def watch(self, version: int, lasts: float) -> None:
        if version < self.store.forgotten:
            return self.refuse(410, "Expired", f"too old resource version: {version} ({self.store.forgotten})")
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        until = time.monotonic() + lasts
        try:
            while (left := until - time.monotonic()) > 0:
                changes = self.store.after(version, min(left, 5.0))
                for version, kind, event in changes:
                    self.line({"type": kind, "object": event})
                if not changes:
                    bookmark = {"kind": "Event", "apiVersion": "v1", "metadata": {"resourceVersion": str(version)}}
                    self.line({"type": "BOOKMARK", "object": bookmark})
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def line(self, what: dict) -> None:
        data = json.dumps(what).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:8001")
    parser.add_argument("--speed", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("file")
    options = parser.parse_args()
    with open(options.file, encoding="utf-8") as lines:
        recording = sorted((json.loads(line) for line in lines if line.strip()), key=lambda line: line["after"])
    Handler.store = Store()
    address, _, port = options.listen.rpartition(":")
    server = ThreadingHTTPServer((address, int(port)), Handler)
    server.daemon_threads = True
    arguments = (Handler.store, recording, options.speed, options.rounds)
    threading.Thread(target=play, args=arguments, daemon=True).start()
    print(f"listening on {server.server_address[0]}:{server.server_address[1]}", flush=True)
    server.serve_forever()


main()
