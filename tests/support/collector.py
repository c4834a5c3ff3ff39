"""A collector of traces: takes spans by OTLP over gRPC, on a real socket."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.support.watching import until


class Received:
    """One span as it came."""

    def __init__(self, span):
        self.trace_id, self.span_id = span.trace_id.hex(), span.span_id.hex()
        self.parent_id = span.parent_span_id.hex()
        self.name, self.kind = span.name, span.kind
        self.attributes = _values(span.attributes)
        self.events = [(event.name, _values(event.attributes)) for event in span.events]
        self.links = [(link.trace_id.hex(), link.span_id.hex()) for link in span.links]
        self.error = span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else None
        self.began_ns, self.ended_ns = span.start_time_unix_nano, span.end_time_unix_nano

    @property
    def place(self):
        """Where it is, as links name it."""
        return self.trace_id, self.span_id


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps all spans, unless it `refuses` them; one that is held answers nobody."""

    def __init__(self):
        self.spans, self.resources, self.raw = [], [], b""
        self.asked = 0
        self.refuses = False
        self._open = threading.Event()
        self._open.set()

    def start(self):
        """Listen. It works in threads of its own, so the tasks of the loop are those of the site."""
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self):
        """Stop, and answer whoever waits."""
        self._open.set()
        self._server.stop(0).wait()

    def hold(self):
        """Answer nobody from now on."""
        self._open.clear()

    def Export(self, request, context):  # noqa: N802 - named by the contract
        """Take a batch."""
        self.asked += 1
        self._open.wait()
        if self.refuses:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        self.raw += request.SerializeToString()
        for part in request.resource_spans:
            self.resources.append(_values(part.resource.attributes))
            self.spans += [Received(span) for scope in part.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    async def span(self, name, number=1):
        """Wait for a span whose name ends so, or for the n-th one."""
        await until(lambda: len(self.named(name)) >= number, f"{number} of {name} among {self.names}")
        return self.named(name)[number - 1]

    def named(self, name):
        """The spans whose names end so."""
        return [span for span in self.spans if span.name.endswith(name)]

    @property
    def names(self):
        """The names of all spans."""
        return [span.name for span in self.spans]


def _values(attributes):
    return {one.key: _value(one.value) for one in attributes}


def _value(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)
