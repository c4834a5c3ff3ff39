"""Clients that know nothing of us: reflection, health, TLS."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from qc_adapter.simulator import Simulator, SimulatorSettings
from qc_adapter.v1 import sessions_pb2

SERVICES = {
    "qc_adapter.v1.QualityControl",
    "qc_adapter.v1.InspectorSessions",
    "qc_adapter.v1.InspectorEvents",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
}


def intercept_by_reflection(address):
    """Intercept with what the server says of itself only; a blocking client, as most generic ones are."""
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = set(database.get_services())
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName("qc_adapter.v1.QualityControl").FindMethodByName("Intercept")
        request = message_factory.GetMessageClass(method.input_type)()
        json_format.ParseDict({"agentId": "101", "workNo": "292"}, request)
        call = channel.unary_stream(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        updates = [json_format.MessageToDict(update, descriptor_pool=pool) for update in call(request, timeout=20)]
        return services, method.server_streaming, updates


async def test_a_client_without_our_code_can_intercept(site):
    """By reflection alone: the services are listed, and an intercept is accepted and confirmed."""
    call_id = await site.listening()
    services, streams, updates = await asyncio.to_thread(intercept_by_reflection, f"127.0.0.1:{site.adapter.port}")
    assert services >= SERVICES
    assert streams
    assert updates[0]["accepted"]["method"] == "intercept"
    assert updates[1]["event"]["eventType"] == "AgentEvent_Talking"
    assert updates[1]["event"]["content"]["callid"] == call_id
    assert updates[-1]["outcome"] == {"state": "CONFIRMED", "callId": call_id}
    assert site.puts == 1
    await site.goes_on()


@pytest.mark.parametrize("service", ["", *sorted(one for one in SERVICES if one.startswith("qc_"))])
async def test_health_is_told_for_every_service(site, service):
    """Check and Watch say SERVING for the whole server and for each of our services."""
    assert await site.serving(service) == "SERVING"
    stream = site.health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=20)
    assert (await stream.read()).status == health_pb2.HealthCheckResponse.SERVING
    stream.cancel()


async def test_health_of_an_unknown_service_is_not_found(site):
    """As grpc.health.v1 has it: Check is NOT_FOUND, Watch says SERVICE_UNKNOWN and waits."""
    request = health_pb2.HealthCheckRequest(service="nobody")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await site.health.Check(request, timeout=20)
    assert refused.value.code() is StatusCode.NOT_FOUND
    stream = site.health.Watch(request, timeout=20)
    assert (await stream.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    stream.cancel()


async def test_a_method_that_is_not_there_is_unimplemented(site):
    """A newer client's method is UNIMPLEMENTED, and the connection lives on."""
    unknown = site.channel.unary_unary("/qc_adapter.v1.QualityControl/Teleport")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await unknown(b"", timeout=20)
    assert refused.value.code() is StatusCode.UNIMPLEMENTED
    await site.goes_on()


async def test_bytes_that_are_no_request_are_refused(site):
    """Garbage in the place of a request ends that call only, and no reason of ours says that it was sent."""
    garbage = site.channel.unary_stream("/qc_adapter.v1.QualityControl/Intercept")
    ended = await site.ending(garbage(b"\xff\xff\xff", timeout=20))
    assert ended.code is not StatusCode.OK
    assert ended.reason != "OUTCOME_UNKNOWN"
    assert site.puts == 0
    await site.goes_on()


@pytest.fixture
async def https_site(open_site, tmp_path):
    """A gateway with TLS and a certificate of its own; returns a function that opens the adapter before it."""
    settings = SimulatorSettings(
        tls_port=0, self_signed=True, event_delay_seconds=0.01, poll_hold_seconds=1, control_enabled=False
    )
    async with Simulator(settings) as simulator:
        certificate = tmp_path / "ca.pem"
        await asyncio.to_thread(certificate.write_bytes, simulator.certificate_pem)

        async def opened(**environment):
            site = await open_site(QC_GATEWAY_URL=simulator.tls_url, **environment)
            site.simulator = simulator
            return site

        yield opened, str(certificate)


async def test_a_gateway_with_a_trusted_certificate_is_used(https_site):
    """With its CA in QC_GATEWAY_CA_FILE everything goes over TLS."""
    opened, ca_file = https_site
    site = await opened(QC_GATEWAY_CA_FILE=ca_file)
    assert (await site.ending(site.sign_in())).code is StatusCode.OK
    await site.goes_on()


async def test_a_gateway_with_an_untrusted_certificate_is_refused(https_site):
    """A certificate that nobody vouches for is INTERNAL GATEWAY_MISCONFIGURED, and no byte of a request goes out."""
    opened, _ = https_site
    site = await opened()
    site.secrets.add(guid := site.simulator.sign_in("101"))
    adopted = sessions_pb2.AdoptRequest(agent_id="101", guid=guid)
    assert (await site.ending(site.sessions.Adopt(adopted, timeout=20))).code is StatusCode.OK
    for begin, method in ((site.sign_in, "login"), (site.intercept, "intercept")):
        ended = await site.ending(begin())
        assert (ended.code, ended.reason) == (StatusCode.INTERNAL, "GATEWAY_MISCONFIGURED")
        assert ended.metadata == {"method": method}
        assert "certificate" in ended.message
        assert not ended.retry
    assert site.simulator.record.received == 0
