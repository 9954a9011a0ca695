"""Health probes of an application, as Kubernetes and WorkloadGroup define them."""

from __future__ import annotations

from fairlead.model.object import Spec


class HTTPHeader(Spec, frozen=True):
    """A header sent with an HTTP probe."""

    name: str
    value: str = ""


class HTTPGet(Spec, frozen=True):
    """Healthy if a GET answers 200 to 399."""

    port: int | str
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[HTTPHeader, ...] = ()


class TCPSocket(Spec, frozen=True):
    """Healthy if the port accepts a connection."""

    port: int | str
    host: str = ""


class GRPCCheck(Spec, frozen=True):
    """Healthy if `grpc.health.v1.Health/Check` answers SERVING."""

    port: int
    service: str = ""


class Exec(Spec, frozen=True):
    """Healthy if the command exits with 0."""

    command: tuple[str, ...]


class Probe(Spec, frozen=True):
    """One of http_get, tcp_socket, grpc, exec; times in seconds, thresholds in consecutive results."""

    http_get: HTTPGet | None = None
    tcp_socket: TCPSocket | None = None
    grpc: GRPCCheck | None = None
    exec: Exec | None = None
    initial_delay_seconds: float = 0
    timeout_seconds: float = 1
    period_seconds: float = 10
    success_threshold: int = 1
    failure_threshold: int = 3
