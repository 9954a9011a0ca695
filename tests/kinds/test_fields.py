"""Every field of every kind is read where objects become facts, or stands in a list with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import inspect

import fairlead
from fairlead.compiler.registry import registry
from fairlead.ir.kind import Kind

SOURCES = Path(fairlead.__file__).parent
ACTING = ("agent", "ir", "model")
"""Packages in which what kinds share is read."""
ASKING = ("validate", "unreachable", "columns", "status", "spec")
"""Modules of a kind that only look at an object."""


def structs(info: inspect.Type, found: dict[type, tuple[str, ...]]) -> None:
    """The structs of a type, with the names of their fields in Python and in JSON."""
    if isinstance(info, inspect.Metadata):
        structs(info.type, found)
    elif isinstance(info, inspect.StructType) and info.cls not in found:
        found[info.cls] = tuple(one.name for one in info.fields)
        for one in info.fields:
            structs(one.type, found)
    elif isinstance(info, inspect.UnionType):
        for one in info.types:
            structs(one, found)
    elif isinstance(info, inspect.DictType):
        structs(info.value_type, found)
    elif isinstance(info, inspect.ListType | inspect.VarTupleType):
        structs(info.item_type, found)


def _judges(node: ast.AST) -> bool:
    """Whether a function says what is wrong with an object: what it reads has no effect for that."""
    return isinstance(node, ast.FunctionDef) and node.returns is not None and "Problem" in ast.unparse(node.returns)


def _read(node: ast.AST) -> Iterator[str]:
    if _judges(node):
        return
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        yield node.attr
    for one in ast.iter_child_nodes(node):
        yield from _read(one)


@cache
def read_in(path: Path) -> frozenset[str]:
    """The attributes that a module reads to act on them."""
    return frozenset(_read(ast.parse(path.read_text())))


def _modules(home: str) -> list[Path]:
    """Where the fields of structs of a module are read, if anywhere."""
    if home.startswith("fairlead.kinds."):
        folder = SOURCES / "kinds" / home.split(".")[2]
        return [one for one in folder.glob("*.py") if not one.stem.startswith(ASKING)]
    kinds = [one for one in SOURCES.glob("kinds/*/*.py") if not one.stem.startswith(ASKING)]
    return [*kinds, *(one for name in ACTING for one in (SOURCES / name).glob("**/*.py"))]


def unread(kind: Kind[Any]) -> set[str]:
    """Fields of a kind that nobody reads to act on them."""
    found: dict[type, tuple[str, ...]] = {}
    structs(inspect.type_info(kind.spec), found)
    return {
        f"{one.__name__}.{name}"
        for one, fields in found.items()
        for name in fields
        if not any(name in read_in(module) for module in _modules(one.__module__))
    }


BY_NAME = {
    "CertificateDetails": "ir.headers goes over its fields",
    "Condition": "kinds.authorizationpolicy.lower takes a field and its `not` by name",
    "Operation": "kinds.authorizationpolicy.lower takes a field and its `not` by name",
    "Source": "kinds.authorizationpolicy.lower takes a field and its `not` by name",
    "WasmPlugin": "kinds.wasmplugin.lower makes a Module of it",
    "WorkloadGroup": "controlplane.enrolment and node read it as model.group.GroupSpec",
}
"""Structs whose fields are read without being named, and where."""
INSIDE = {
    "CA": "ca gets a warning",
    "Certificate": "certificates gets a warning",
    "ConfigSource": "configSources gets a warning",
    "KeyMethod": "privateKeyProvider gets a warning",
    "PrivateKeyProvider": "privateKeyProvider gets a warning",
    "ProxyImage": "image gets a warning",
    "SDS": "sds gets a warning",
    "ServiceScope": "serviceScopeConfigs gets a warning",
    "Stackdriver": "stackdriver gets a warning",
}
"""Structs that stand only in fields of which nothing is made."""
WITHOUT_EFFECT = {
    "ExtensionProvider": "lightstep opencensus stackdriver",
    "FaultAbort": "http2_error",
    "FaultDelay": "exponential_delay",
    "IngressTls": "alpn_protocols ca_cert_credential_name ca_crl credential_name credential_names ecdh_curves"
    " https_redirect subject_alt_names tls_certificates",
    "L4MatchAttributes": "source_subnet",
    "MeshConfig": "ca certificates compliance_policy config_sources hbone_idle_timeout"
    " service_scope_configs verify_certificate_at_client",
    "Metrics": "reporting_interval",
    "Module": "verification_key",
    "OutlierDetection": "consecutive_errors",
    "Port": "target_port",
    "ProxyConfig": "availability_zone binary_path config_path control_plane_auth_policy custom_config_file"
    " discovery_address discovery_refresh_delay envoy_metrics_service_address hold_application_until_proxy_starts image"
    " interception_mode parent_shutdown_duration private_key_provider proxy_admin_port proxy_bootstrap_template_path"
    " sds stat_name_length",
    "ProxyConfigSpec": "image",
    # Names of workloads never leave the mesh, whatever is said.
    "ProxyHeadersSpec": "metadata_exchange_headers",
    "Server": "default_endpoint",
    "SidecarPort": "target_port",
    "Tracing": "lightstep open_census_agent stackdriver",
}
"""Fields that are refused or get a warning, since nothing is made of them (why, the message says)."""
ISTIO = tuple(one for one in registry().kinds if one.group.endswith("istio.io"))


def test_every_field_is_acted_on_or_has_a_reason() -> None:
    listed = {f"{name}.{field}" for name, fields in WITHOUT_EFFECT.items() for field in fields.split()}
    every = set[str]().union(*map(unread, ISTIO))
    missing = {one for one in every - listed if one.partition(".")[0] not in (*BY_NAME, *INSIDE)}
    assert not missing, "nobody reads them to act on them"
    # `ca` and `sds` are also names of something else that is read.
    assert listed - every <= {"MeshConfig.ca", "ProxyConfig.sds"}, "they are acted on, so they need no reason"
    assert {*BY_NAME, *INSIDE} == {one.partition(".")[0] for one in every - listed}
