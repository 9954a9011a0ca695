"""Real Envoys for tests, with certificates of a real authority, and a small real catalog."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from tests.loopback import free_port

from fairlead.ca.authority import Authority
from fairlead.ca.identity import Identity
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource

BINARY = Path(sys.executable).parent / "envoy"


def _resource(type_url: str, name: str, message: Message, spec: dict[str, Any]) -> Resource:
    return Resource.of(type_url, name, ParseDict(spec, message).SerializeToString(deterministic=True))


ADS = {"ads": {}, "resource_api_version": "V3"}


def cluster(name: str, **fields: Any) -> Resource:
    spec = {
        "name": name,
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": ADS},
        **fields,
    }
    return _resource(CLUSTER, name, cluster_pb2.Cluster(), spec)


def endpoints(name: str, *ports: int) -> Resource:
    hosts = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}} for port in ports
    ]
    spec = {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]}
    return _resource(ENDPOINT, name, endpoint_pb2.ClusterLoadAssignment(), spec)


def route(name: str, *, cluster: str = "", body: str = "") -> Resource:
    action: dict[str, Any] = (
        {"route": {"cluster": cluster}}
        if cluster
        else {"direct_response": {"status": 200, "body": {"inline_string": body}}}
    )
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}]
    return _resource(ROUTE, name, route_pb2.RouteConfiguration(), {"name": name, "virtual_hosts": hosts})


def listener(name: str, port: int, route_name: str, *, broken: bool = False) -> Resource:
    router = router_pb2.Router()
    manager = ParseDict(
        {
            "stat_prefix": name,
            "rds": {"route_config_name": route_name, "config_source": ADS},
            "http_filters": [{"name": "envoy.filters.http.router"}],
        },
        hcm_pb2.HttpConnectionManager(),
    )
    manager.http_filters[0].typed_config.Pack(router)
    message = ParseDict(
        {
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager"}]}],
        },
        listener_pb2.Listener(),
    )
    message.filter_chains[0].filters[0].typed_config.Pack(manager)
    if broken:
        # A codec type that passes validation of the message, but not the filter's construction.
        message.filter_chains[0].filters[0].typed_config.type_url = "type.googleapis.com/nobody.knows.This"
    return Resource.of(LISTENER, name, message.SerializeToString(deterministic=True))


def workload_files(authority: Authority, identity: Identity, directory: Path) -> dict[str, str]:
    """A key, its certificate chain and the root, as files for a bootstrap."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    issued = authority.issue(csr.public_bytes(serialization.Encoding.PEM), identity)
    content = {
        "key": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        "chain": issued.presented.encode(),
        "root": authority.root_pem.encode(),
    }
    for name, data in content.items():
        (directory / f"{name}.pem").write_bytes(data)
    return {name: str(directory / f"{name}.pem") for name in content}


class Envoy:
    """An Envoy with an ADS bootstrap."""

    def __init__(self, directory: Path, xds_port: int, files: dict[str, str], node: dict[str, Any], *, delta: bool):
        self.admin_port = free_port()
        self._log = directory / "envoy.log"
        bootstrap = directory / "bootstrap.json"
        bootstrap.write_text(json.dumps(self._bootstrap(xds_port, files, node, delta)))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [BINARY, "-c", bootstrap, "--disable-hot-restart", "--concurrency", "1", "-l", "info"],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _bootstrap(self, xds_port: int, files: dict[str, str], node: dict[str, Any], delta: bool) -> dict[str, Any]:
        tls = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": "localhost",
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_certificates": [
                    {"certificate_chain": {"filename": files["chain"]}, "private_key": {"filename": files["key"]}}
                ],
                "validation_context": {
                    "trusted_ca": {"filename": files["root"]},
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "localhost"}}],
                },
            },
        }
        address = {"socket_address": {"address": "127.0.0.1", "port_value": xds_port}}
        h2 = {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
        return {
            "node": node,
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin_port}}},
            "dynamic_resources": {
                "lds_config": ADS,
                "cds_config": ADS,
                "ads_config": {
                    "api_type": "DELTA_GRPC" if delta else "GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": True,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
                },
            },
            "static_resources": {
                "clusters": [
                    {
                        "name": "xds",
                        "type": "STATIC",
                        "connect_timeout": "1s",
                        "load_assignment": {
                            "cluster_name": "xds",
                            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                        },
                        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                        "typed_extension_protocol_options": {
                            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": h2
                        },
                    }
                ]
            },
        }

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-6000:]

    def running(self) -> bool:
        return self._process.poll() is None

    async def get(self, url: str) -> tuple[int, str]:
        return await asyncio.to_thread(fetch, url)

    async def admin(self, path: str) -> Any:
        status, body = await self.get(f"http://127.0.0.1:{self.admin_port}{path}")
        return json.loads(body) if status == 200 else None

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


def fetch(url: str) -> tuple[int, str]:
    """Status and body; status 0 if nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


async def until(condition: Callable[[], Any], what: str, seconds: float = 20) -> None:
    """Wait for a condition; fails with what was waited for."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                result = condition()
                if asyncio.iscoroutine(result):
                    result = await result
                if result:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {seconds} s") from None
