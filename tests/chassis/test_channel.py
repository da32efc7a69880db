"""A channel to a peer that takes its time, or was not there a moment ago."""

import asyncio
import socket

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.server import Server

SECRET = "a secret of sixteen or more"


def test_a_peer_that_takes_a_while_to_greet_is_connected_to(run):
    async def claim():
        server = Server("127.0.0.1:0", SECRET, [])
        await server.start()

        async def pump(reader, writer):
            while data := await reader.read(65_536):
                writer.write(data)
            writer.close()

        async def greet_late(reader, writer):
            await asyncio.sleep(0.4)
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

        listener = await asyncio.start_server(greet_late, "127.0.0.1", 0)
        channel = open_channel(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}", SECRET)
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        finally:
            await channel.close()
            listener.close()
            await server.drain(0)

    run(claim())


def test_what_another_channel_found_out_about_an_address_is_not_waited_for(run):
    """One that has failed to connect for a while keeps the address in its back-off."""

    async def claim():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        former = open_channel(address, SECRET)
        while (state := former.get_state(True)) is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            await former.wait_for_state_change(state)
        server = Server(address, SECRET, [])
        await server.start()
        other = open_channel(address, SECRET)
        try:
            stub = health_pb2_grpc.HealthStub(other)
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)  # or fails at once
        finally:
            await other.close()
            await former.close()
            await server.drain(0)

    run(claim())
