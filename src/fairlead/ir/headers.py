"""Headers that proxies add (ProxyConfig `proxyHeaders`)."""

from __future__ import annotations

import msgspec

from fairlead.ir.proxyconfig import CertificateDetails, ProxyHeadersSpec, ServerHeader, Switch, Wanted


class ProxyHeaders(msgspec.Struct, frozen=True):
    """Which headers a proxy adds, and how.

    `server` is the value of that header, None where what the application says is passed on, "" for Istio's default.
    `client_cert` is what becomes of X-Forwarded-Client-Cert at sidecars (Envoy's words), "" for APPEND_FORWARD, and
    `certificate` which parts of the certificate it has where that differs from Istio's default, sorted by name.
    `debug` are X-Envoy-Upstream-Service-Time and its like. `keep_case` passes HTTP/1.1 headers on as they are written.
    """

    server: str | None = ""
    request_id: bool = True
    attempt_count: bool = True
    debug: bool = True
    client_cert: str = ""
    certificate: tuple[tuple[str, bool], ...] = ()
    forwarded_host: bool = False
    forwarded_port: bool = False
    keep_case: bool = False


_SAID_BY = {
    "forwarded_client_cert": "client_cert",
    "set_current_client_cert_details": "certificate",
    "request_id": "request_id",
    "server": "server",
    "attempt_count": "attempt_count",
    "envoy_debug_headers": "debug",
    "x_forwarded_host": "forwarded_host",
    "x_forwarded_port": "forwarded_port",
    "preserve_http1_header_case": "keep_case",
}
"""Fields of ProxyHeadersSpec, and what they are of the fact."""


class OwnHeaders(msgspec.Struct, frozen=True):
    """What a workload says of them itself: of `headers` the fields that are in `said`."""

    headers: ProxyHeaders
    said: tuple[str, ...]

    def over(self, usual: ProxyHeaders) -> ProxyHeaders:
        """The headers where the mesh says the usual: each of them counts by itself (Istio's `MergeProxyConfig`)."""
        return msgspec.structs.replace(usual, **{name: getattr(self.headers, name) for name in self.said})


def own_headers(said: ProxyHeadersSpec) -> OwnHeaders:
    """The fact of what a workload's own settings say."""
    default = ProxyHeadersSpec()
    given = (name for field, name in _SAID_BY.items() if getattr(said, field) != getattr(default, field))
    return OwnHeaders(proxy_headers(said), tuple(given))


def proxy_headers(said: ProxyHeadersSpec | None) -> ProxyHeaders:
    """The fact of what settings say. Names of workloads never leave the mesh, whatever `metadataExchangeHeaders` is."""
    if said is None:
        return ProxyHeaders()
    server, details = said.server or ServerHeader(), said.set_current_client_cert_details or CertificateDetails()
    given = ((name, getattr(details, name)) for name in sorted(details.__struct_fields__))
    return ProxyHeaders(
        server=None if server.disabled else server.value,
        request_id=not (said.request_id or Switch()).disabled,
        attempt_count=not (said.attempt_count or Switch()).disabled,
        debug=not (said.envoy_debug_headers or Switch()).disabled,
        client_cert="" if said.forwarded_client_cert == "UNDEFINED" else said.forwarded_client_cert,
        certificate=tuple((name, value) for name, value in given if value is not None),
        forwarded_host=bool((said.x_forwarded_host or Wanted()).enabled),
        forwarded_port=bool((said.x_forwarded_port or Wanted()).enabled),
        keep_case=bool(said.preserve_http1_header_case),
    )
