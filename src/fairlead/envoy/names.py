"""Names of Envoy objects, as Istio gives them (istio `pilot/pkg/model` and `pilot/pkg/networking/core`)."""

from __future__ import annotations

import re
from typing import Literal

PASSTHROUGH_CLUSTER = "PassthroughCluster"
LOCAL_CLUSTER = "local_cluster"
"""The cluster of a proxy's own workload, by which Envoy knows how its peers are spread over zones."""
BLACKHOLE_CLUSTER = "BlackHoleCluster"
DYNAMIC_CLUSTER = "AllowAnyDynamicDNSCluster"
INBOUND_PASSTHROUGH_CLUSTER = "InboundPassthroughCluster"
VIRTUAL_OUTBOUND = "virtualOutbound"
VIRTUAL_INBOUND = "virtualInbound"
HTTP_PROXY_ROUTE = "http_proxy"
ALLOW_ANY = "allow_any"
BLOCK_ALL = "block_all"
IDENTITY_SECRET = "default"  # noqa: S105 - the name of an SDS resource
ROOT_SECRET = "ROOTCA"  # noqa: S105 - the name of an SDS resource
CREDENTIAL_PREFIX = "kubernetes://"
CREDENTIALS = (CREDENTIAL_PREFIX, "kubernetes-gateway://", "configmap://")
"""With what the names of secrets begin that the control plane serves."""
CA_SUFFIX = "-cacert"

FILE = "file-"
FILE_CERTIFICATE = f"{FILE}cert:"
FILE_ROOT = f"{FILE}root:"
FILE_REVOKED = f"{FILE}crl:"
FILES = (FILE_CERTIFICATE, FILE_ROOT, FILE_REVOKED)
"""Prefixes of secrets that the agent makes of files on its host; the rest of the name says which."""
SYSTEM = "system"
SYSTEM_ROOT = f"{FILE_ROOT}{SYSTEM}"
"""The secret with the authorities that the host itself trusts (Istio's name); only its agent knows where they are."""

OUTBOUND_PORT = 15001
INBOUND_PORT = 15006

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
"""Under which a cluster has its settings of HTTP."""
PEER_HEADER = "x-fairlead-peer"
"""By which workloads introduce themselves to each other; see `fairlead.envoy.stats`."""

ISTIO_ALPN = ("istio-peer-exchange", "istio")
ISTIO_HTTP_ALPN = ("istio-peer-exchange", "istio-http/1.1", "istio-h2")
MESH_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
"""What clients offer in mesh mTLS, and in no other TLS."""


def subset_key(direction: Literal["outbound", "inbound"], port: int, subset: str, host: str) -> str:
    """`outbound|9080|v1|reviews.default.svc.cluster.local`; an inbound cluster has neither subset nor host."""
    return f"{direction}|{port}|{subset}|{host}"


QUIC_PREFIX = "udp_"
"""How names of QUIC listeners begin."""


def inbound_cluster(port: int) -> str:
    """`inbound|8080||`: the application's own port."""
    return subset_key("inbound", port, "", "")


def tunnel_cluster(port: int) -> str:
    """`http_proxy|9080||`: from an HTTP proxy's CONNECT to the same proxy's own listener for a port."""
    return f"{HTTP_PROXY_ROUTE}|{port}||"


def dns_srv_name(port: int, subset: str, host: str) -> str:
    """`outbound_.9080_.v1_.reviews.default.svc.cluster.local`: the SNI of mesh mTLS to a cluster."""
    return f"outbound_.{port}_.{subset}_.{host}"


def dns_srv_pattern(host: str) -> str:
    """The regular expression (RE2) of such names for hosts that a pattern like `*.local` covers."""
    covered = ".+" if host == "*" else f".+{re.escape(host[1:])}" if host.startswith("*") else re.escape(host)
    return rf"outbound_\.[0-9]+_\.[^.]*_\.{covered}"


def file_certificate(certificate: str, key: str) -> str:
    """`file-cert:/etc/certs/tls.crt~/etc/certs/tls.key`: the secret of a certificate in files."""
    return f"{FILE_CERTIFICATE}{certificate}~{key}"


def file_roots(roots: str, revoked: str = "") -> str:
    """`file-root:/etc/certs/ca.crt`, `file-crl:/etc/certs/ca.crt~/etc/certs/ca.crl`: the secret of authorities in a
    file, and of what they have revoked.
    """
    return f"{FILE_REVOKED}{roots}~{revoked}" if revoked else f"{FILE_ROOT}{roots}"


def stat_name(cluster: str) -> str:
    """A cluster's name in statistics.

    Envoy would split an unaliased name at its dots; the semicolon ends the name for the tag extractor.
    """
    return f"{cluster};"


def listener(address: str, port: int) -> str:
    """`0.0.0.0_9080`."""
    return f"{address}_{port}"


def quic_listener(address: str, port: int) -> str:
    """`udp_0.0.0.0_443`: the QUIC listener beside the one for TCP."""
    return f"{QUIC_PREFIX}{listener(address, port)}"


def gateway_route(port: int, bind: str = "") -> str:
    """`http.80`, `http.80.10.0.0.1`: the routes of plain-text servers on a gateway's port, at an address they name."""
    return f"http.{port}{_at(bind)}"


def gateway_tls_route(port: int, port_name: str, gateway: str, namespace: str, bind: str = "") -> str:
    """`https.443.https.my-gateway.default`: the routes of one TLS server."""
    return f"https.{port}.{port_name}.{gateway}.{namespace}{_at(bind)}"


def _at(bind: str) -> str:
    return f".{bind}" if bind else ""
