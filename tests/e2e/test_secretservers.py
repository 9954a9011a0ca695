"""Certificates that a server of secrets has (MeshConfig's provider `sds`), for gateways and for TLS of their calls."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from tests.e2e.conftest import World
from tests.e2e.mesh import eventually, request
from tests.e2e.test_services import settings
from tests.loopback import free_port

HOST = "served.example"
SIMPLE, MUTUAL = 18131, 18132
METHOD = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"


class Server:
    """Speaks SDS over gRPC, state of the world, and remembers for what it was asked."""

    def __init__(self, secrets: dict[str, Secret]) -> None:
        self.secrets = secrets
        self.asked: set[str] = set()
        self.port = free_port()
        self._server = grpc.server(ThreadPoolExecutor(8))
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream, DiscoveryRequest.FromString, DiscoveryResponse.SerializeToString
        )
        service, _, method = METHOD[1:].partition("/")
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def _stream(self, requests: Iterator[DiscoveryRequest], _: grpc.ServicerContext) -> Iterator[DiscoveryResponse]:
        for one in requests:
            if one.response_nonce:
                continue
            self.asked.update(one.resource_names)
            made = DiscoveryResponse(version_info="1", nonce="1", type_url=one.type_url)
            for name in one.resource_names:
                if name in self.secrets:
                    made.resources.add().Pack(self.secrets[name])
            yield made

    def close(self) -> None:
        self._server.stop(None).wait()


def pair(name: str, certificate: str, key: str) -> Secret:
    made = Secret(name=name)
    made.tls_certificate.certificate_chain.inline_string = certificate
    made.tls_certificate.private_key.inline_string = key
    return made


def roots(name: str, text: str) -> Secret:
    made = Secret(name=name)
    made.validation_context.trusted_ca.inline_string = text
    return made


@pytest.fixture
def server(world: World) -> Iterator[Server]:
    own = world.certificates
    made = Server({"shown": pair("shown", *own.issue(HOST)), "shown-cacert": roots("shown-cacert", own.root)})
    yield made
    made.close()


def documents(server: Server) -> str:
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "secrets", "namespace": "edge"},
        "spec": {
            "hosts": ["secrets.example"],
            "location": "MESH_EXTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": server.port, "name": "grpc", "protocol": "GRPC"}],
            "endpoints": [{"address": "127.0.0.1"}],
        },
    }
    servers = [
        {
            "port": {"number": port, "name": mode.lower(), "protocol": "HTTPS"},
            "bind": "GATEWAY",
            "hosts": [HOST],
            "tls": {"mode": mode, "credentialName": "sds://shown"},
        }
        for port, mode in ((SIMPLE, "SIMPLE"), (MUTUAL, "MUTUAL"))
    ]
    gateway = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "served", "namespace": "edge"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": servers},
    }
    route = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "served", "namespace": "app"},
        "spec": {
            "hosts": [HOST],
            "gateways": ["edge/served"],
            "http": [{"route": [{"destination": {"host": "echo", "port": {"number": 18080}}}]}],
        },
    }
    provider = f"{{name: vault, sds: {{service: secrets.example, port: {server.port}}}}}"
    mesh = settings(f"extensionProviders: [{provider}]")
    return "\n---\n".join([*map(json.dumps, (entry, gateway, route)), mesh])


def test_a_gateway_has_certificates_and_authorities_of_a_server_of_secrets(world: World, server: Server) -> None:
    """They never pass through the control plane: no Secret holds them, and the server is asked by the bare name."""
    own, address = world.certificates, world.gateway.address
    with world.mesh.config(documents(server)):
        bare = ssl.create_default_context(cafile=str(own.root_file))
        found = eventually(lambda: request(address, SIMPLE, host=HOST, tls=bare))
        assert found.status == 200
        known = ssl.create_default_context(cafile=str(own.root_file))
        known.load_cert_chain(*own.files("ann.example"))
        assert eventually(lambda: request(address, MUTUAL, host=HOST, tls=known)).status == 200
        with pytest.raises(OSError, match=r"certificate required|EOF"):
            request(address, MUTUAL, host=HOST, tls=bare)
    assert server.asked == {"shown", "shown-cacert"}
