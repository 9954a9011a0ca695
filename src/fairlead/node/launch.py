"""What a replica is started with: pure functions from a Process and its place to files and API objects."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from fairlead.ir.locality import CLUSTER, NETWORK
from fairlead.ir.proxystart import ANNOTATION, StartLayers, effective, starting
from fairlead.kinds.process import KIND
from fairlead.kinds.process.spec import ON_DEMAND, ProcessPort, ProcessSpec
from fairlead.model.launch import STATUS_PORT, AgentConfig, AppPort, Capture, CaptureMode, ProxySettings
from fairlead.model.manifest import Json
from fairlead.model.object import Metadata, Object
from fairlead.node.addresses import Addresses
from fairlead.node.expand import environment, expand

RESTARTED_AT = "fairlead.dev/restarted-at"
"""Annotation on a Process: a new value restarts its replicas one after the other."""
PROCESS_LABEL = "fairlead.dev/process"
NODE_LABEL = "fairlead.dev/node"
TLS_MODE_LABEL = "security.istio.io/tlsMode"
"""Istio's label on an endpoint: `istio` says that it accepts mesh mTLS."""
WORKLOAD_LABEL = "service.istio.io/workload-name"
"""Istio's label on an endpoint: the workload that it is an instance of, as metrics name it."""
HEALTH_CHECKS = "proxy.istio.io/health-checks-enabled"
"""Istio's annotation on a WorkloadEntry: it counts as unhealthy until its agent has reported health."""
NO_PROXY = "127.0.0.1,localhost,::1"


class Mesh(msgspec.Struct, frozen=True):
    """Where the control plane is and what the mesh is called. `root_cert_file` is an absolute path."""

    xds_address: str
    join_address: str
    root_cert_file: str
    trust_domain: str = "cluster.local"
    domain_suffix: str = "cluster.local"
    cluster_id: str = "Kubernetes"
    network: str = ""
    envoy: str = ""


class Place(msgspec.Struct, frozen=True):
    """Where one replica runs: its addresses, its directory, and the file of its network namespace (netns only)."""

    addresses: Addresses
    directory: str
    mode: CaptureMode
    netns: str = ""


class ServiceAddress(msgspec.Struct, frozen=True):
    """A Service of the replica's namespace. `ports` are (name, number)."""

    name: str
    cluster_ip: str
    ports: tuple[tuple[str, int], ...]

    @staticmethod
    def of(document: Mapping[str, Any]) -> ServiceAddress:
        """Read from a Service object."""
        spec: Json = document.get("spec") or {}
        listed: list[Json] = spec.get("ports") or []
        ip = str(spec.get("clusterIP") or "")
        ports = tuple((str(one.get("name") or ""), int(one["port"])) for one in listed if "port" in one)
        return ServiceAddress(str(document["metadata"]["name"]), "" if ip == "None" else ip, ports)


def template(process: Object[ProcessSpec]) -> str:
    """A hash of everything whose change replaces the replicas (all but their number and the node)."""
    spec = msgspec.structs.replace(process.spec, replicas=1, node="")
    meant: list[object] = [spec, process.meta.annotations.get(RESTARTED_AT, "")]
    said = starting(process.meta.annotations)
    if ANNOTATION in said:
        meant.append(said.pop(ANNOTATION))
    if said:
        meant.append(said)
    if on_demand(process) != "auto":
        meant.append({ON_DEMAND: on_demand(process)})
    text = msgspec.json.encode(meant, order="deterministic")
    return hashlib.sha256(text).hexdigest()[:16]


def on_demand(process: Object[ProcessSpec]) -> Literal["auto", "true", "false"]:
    """Whether its sidecars ask for clusters when they need them; without the annotation as the mesh says."""
    said = process.meta.annotations.get(ON_DEMAND, "")
    return "true" if said == "true" else "false" if said == "false" else "auto"


def protocol_of(port: ProcessPort) -> str:
    """The application protocol in lower case, or ""."""
    return (port.app_protocol or port.protocol).lower()


def bind_address(place: Place, proxy: str) -> str:
    """Where the application listens (`HOST`)."""
    if place.mode == "explicit":
        return place.addresses.application
    if place.mode == "netns":
        return "0.0.0.0"  # noqa: S104 (inside the replica's own network namespace)
    return place.addresses.workload if proxy == "none" else "127.0.0.1"


def service_variables(services: Iterable[ServiceAddress], place: Place) -> dict[str, str]:
    """`{NAME}_SERVICE_HOST` and `_PORT` as Kubernetes sets them.

    In explicit mode the host is where the replica's own Envoy binds the service's port, else the cluster IP.
    """
    out: dict[str, str] = {}
    for service in services:
        host = place.addresses.outbound if place.mode == "explicit" else service.cluster_ip
        if not host or not service.ports:
            continue
        name = _variable(service.name)
        out[f"{name}_SERVICE_HOST"] = host
        out[f"{name}_SERVICE_PORT"] = str(service.ports[0][1])
        for port_name, number in service.ports:
            if port_name:
                out[f"{name}_SERVICE_PORT_{_variable(port_name)}"] = str(number)
    return out


def _variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def variables(
    process: Object[ProcessSpec],
    replica: str,
    place: Place,
    services: Sequence[ServiceAddress],
    base: Mapping[str, str],
) -> dict[str, str]:
    """The environment of the application, complete."""
    spec = process.spec
    given = {**base, **service_variables(services, place)}
    given |= {
        "POD_NAME": replica,
        "POD_NAMESPACE": process.ref.namespace,
        "POD_IP": place.addresses.workload,
        "SERVICE_ACCOUNT": spec.service_account_name,
        "HOST": bind_address(place, spec.proxy),
    }
    if spec.ports:
        given["PORT"] = str(spec.ports[0].port)
    if place.mode == "explicit":
        proxy = f"http://{place.addresses.outbound}:{Capture().http_proxy_port}"
        for name, value in (("HTTP_PROXY", proxy), ("HTTPS_PROXY", proxy), ("NO_PROXY", NO_PROXY)):
            given |= {name: value, name.lower(): value}
    return environment(given, ((one.name, one.value) for one in spec.env))


def agent_config(
    process: Object[ProcessSpec],
    replica: str,
    place: Place,
    mesh: Mesh,
    services: Sequence[ServiceAddress] = (),
    base: Mapping[str, str] | None = None,
    start: StartLayers | None = None,
) -> AgentConfig:
    """The configuration of the replica's agent; `base` is the environment that applications start from.

    `start` is what the mesh says of how proxies start; the annotation of the Process is added here.
    """
    spec = process.spec
    env = variables(process, replica, place, services, base or {})
    gateway = spec.proxy == "router"
    started = effective(start or StartLayers(), process.meta.annotations)
    settings = started.settings
    capture = Capture(mode="none")
    if not gateway and place.mode != "none":
        explicit = place.mode == "explicit"
        capture = Capture(
            mode=place.mode,
            netns=place.netns,
            app_address=place.addresses.application if explicit else "127.0.0.1",
            outbound_address=place.addresses.outbound if explicit else "",
        )
    return AgentConfig(
        name=replica,
        namespace=process.ref.namespace,
        service_account=spec.service_account_name,
        directory=place.directory,
        xds_address=mesh.xds_address,
        join_address=mesh.join_address,
        root_cert_file=mesh.root_cert_file,
        token_file=f"{place.directory}/token",
        proxy_type="router" if gateway else "sidecar",
        address=place.addresses.workload,
        entry="" if gateway else replica,
        labels=spec.labels,
        workload_name=process.ref.name,
        trust_domain=mesh.trust_domain,
        domain_suffix=mesh.domain_suffix,
        cluster_id=spec.labels.get(CLUSTER) or mesh.cluster_id,
        network=spec.labels.get(NETWORK) or mesh.network,
        capture=capture,
        on_demand=on_demand(process),
        ports=tuple(AppPort(one.port, one.name, protocol_of(one)) for one in spec.ports),
        command=() if gateway else tuple(expand(word, env) for word in (*spec.command, *spec.args)),
        env=env,
        working_dir=expand(spec.working_dir, env),
        app_log="" if gateway else f"{place.directory}/app.log",
        readiness=spec.readiness_probe or settings.readiness,
        liveness=spec.liveness_probe,
        drain_seconds=_drain(spec, settings),
        concurrency=1 if started.concurrency is None else started.concurrency,
        proxy_env=dict(started.environment),
        bootstrap=start.bootstrap if start is not None else (),
        proxy=settings,
        status_port=settings.status_port or STATUS_PORT,
        envoy=mesh.envoy,
    )


def _drain(spec: ProcessSpec, settings: ProxySettings) -> float:
    """Seconds for open connections at the end: Istio's own wait, within the time that the Process gives."""
    given = spec.termination_grace_period_seconds
    return given if settings.termination_seconds is None else min(settings.termination_seconds, given)


def workload_entry(process: Object[ProcessSpec], replica: str, place: Place, node: str, network: str = "") -> Json:
    """The WorkloadEntry of a replica, as it is applied.

    A replica without a proxy gets neither service account nor mTLS label: that is how callers tell.
    """
    spec = process.spec
    sidecar = spec.proxy == "sidecar"
    labels = {**spec.labels, WORKLOAD_LABEL: process.ref.name}
    body: Json = {"address": place.addresses.workload, "labels": labels}
    if spec.ports:
        body["ports"] = {one.name or f"port-{one.port}": one.port for one in spec.ports}
    if sidecar:
        labels[TLS_MODE_LABEL] = "istio"
        body["serviceAccount"] = spec.service_account_name
    if labels.get(NETWORK) or network:
        body["network"] = labels.get(NETWORK) or network
    meta: Json = {
        "name": replica,
        "namespace": process.ref.namespace,
        "labels": {**spec.labels, PROCESS_LABEL: process.ref.name, NODE_LABEL: node},
    }
    if sidecar:
        meta["annotations"] = {HEALTH_CHECKS: "true"}
    return {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": meta, "spec": body}


def read_process(document: Json) -> Object[ProcessSpec]:
    """A Process from what the API delivered. Raises msgspec.ValidationError; fields of a newer version are refused."""
    meta = document["metadata"]
    known = {
        name: meta[name] for name in ("name", "namespace", "labels", "annotations", "uid", "generation") if name in meta
    }
    spec = msgspec.convert(document.get("spec") or {}, ProcessSpec)
    ref = KIND.ref(str(meta.get("namespace") or "default"), str(meta["name"]))
    return Object(ref, msgspec.convert(known, Metadata), spec)
