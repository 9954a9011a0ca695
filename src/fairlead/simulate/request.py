"""What is asked of the simulator: who calls, what, and how."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Pairs = tuple[tuple[str, str], ...]


class Caller(msgspec.Struct, frozen=True):
    """Who makes the call.

    `workload`: an instance in the mesh, `name` and `namespace` those of its proxy. `internet`: a client in front of a
    gateway, with no identity of the mesh. `plaintext`: a peer outside of the mesh that connects to the instance itself.
    `address` is where the connection comes from, as the first proxy sees it ("" if it does not matter). `user` is the
    user or group of a workload's application, as capture rules name it ("" for one of which they say nothing).
    """

    kind: Literal["workload", "internet", "plaintext"]
    namespace: str = ""
    name: str = ""
    address: str = ""
    user: str = ""


class Request(msgspec.Struct, frozen=True):
    """One request on a connection of its own, or one connection where the protocol is not HTTP.

    `host` and `port` are where the client connects to by name; `address` is the IP address to which that name leads the
    client, empty: as the mesh would resolve it. `authority` is the Host header where it differs from `host` and `port`.
    `headers` have lower-case names. `tls` is what the application itself does (it gives `sni`); mutual TLS between
    proxies is not the application's and is found out. `claims` are those of a valid token in the Authorization header:
    signatures are not looked at; a token that is not valid is `token_problem` (`missing`, `expired`, `signature`,
    `issuer`, `audience`). `certificate` is what the application itself shows where its own TLS is asked for one: none,
    one of the authority that the server asks for, or another one. HTTP/3 is QUIC, which only gateways take.
    """

    host: str
    port: int
    path: str = "/"
    method: str = "GET"
    headers: Pairs = ()
    protocol: Literal["http", "http2", "http3", "grpc", "tcp"] = "http"
    authority: str = ""
    address: str = ""
    tls: bool = False
    sni: str = ""
    claims: dict[str, Any] | None = None
    token_problem: str = ""
    certificate: Literal["", "valid", "invalid"] = ""
