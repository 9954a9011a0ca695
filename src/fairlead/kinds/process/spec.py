"""The spec of a Process. Fields that Kubernetes' PodSpec has mean the same here."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fairlead.model.object import Spec
from fairlead.model.probe import Probe

ON_DEMAND = "fairlead.dev/on-demand"
"""The annotation of a Process whose sidecars ask for clusters at the first call (true), or never do (false)."""


class EnvVar(Spec, frozen=True):
    """An environment variable; `$(NAME)` in the value stands for a variable that is set before it."""

    name: str
    value: str = ""


class ProcessPort(Spec, frozen=True):
    """A port on which the application serves.

    `protocol` is the transport (TCP, UDP) or, in capitals or not, an application protocol; `app_protocol` wins.
    """

    port: Annotated[int, Meta(ge=1, le=65535)]
    name: str = ""
    protocol: str = ""
    app_protocol: str = ""


class ProcessSpec(Spec, frozen=True):
    """What to run, how often, as whom, and how its traffic meets its proxy.

    command, args: the program and its arguments, with `$(NAME)` expanded. Without a command, and with
        `proxy: router`, the process is a gateway.
    proxy: sidecar (an Envoy beside each replica), router (an Envoy at the edge), none (no Envoy, no identity).
    capture: netns (transparent; needs root), explicit (own loopback address, HTTP_PROXY), none, or auto: netns where
        the node may, else explicit.
    node: the node that runs it; without one, the first that claims it.
    termination_grace_period_seconds: how long a replica may finish its requests before it is killed.
    """

    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    working_dir: str = ""
    ports: tuple[ProcessPort, ...] = ()
    labels: dict[str, str] = {}
    service_account_name: str = "default"
    replicas: Annotated[int, Meta(ge=0, le=1000)] = 1
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    capture: Literal["auto", "netns", "explicit", "none"] = "auto"
    proxy: Literal["sidecar", "router", "none"] = "sidecar"
    termination_grace_period_seconds: Annotated[int, Meta(ge=0, le=86400)] = 30
    node: str = ""
