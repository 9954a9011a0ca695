"""Fields of Wasm modules and of the traffic that they see, which two kinds have in common (`istio.extensions`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from fairlead.model.diagnostic import Problem, has_errors
from fairlead.model.findings import doubtful, duplicate, forbidden, invalid, no_effect, required
from fairlead.model.object import Spec
from fairlead.model.path import FieldPath

PHASES = Literal["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"]
_SCHEMES = ("", "file", "http", "https", "oci")
_SHA = re.compile(r"[a-f0-9]{64}\Z")
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f]|%(?![0-9A-Fa-f]{2})")
_MOST_VARIABLES = 256
_LONGEST = 2048


class PortSelector(Spec, frozen=True):
    """A port."""

    number: Annotated[int, Meta(ge=1, le=65535, description="The port.")]


class TrafficSelector(Spec, frozen=True):
    """Traffic of the workload."""

    mode: Annotated[
        Literal["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"],
        Meta(description="CLIENT: what the workload sends; SERVER: what it gets."),
    ] = "CLIENT_AND_SERVER"
    ports: Annotated[tuple[PortSelector, ...], Meta(description="On these ports; none: on all.")] = ()


class EnvVar(Spec, frozen=True):
    """A variable of the module's environment."""

    name: Annotated[str, Meta(min_length=1, max_length=256, description="The variable.")]
    value_from: Annotated[
        Literal["INLINE", "HOST"], Meta(description="HOST: the value in the proxy's own environment.")
    ] = "INLINE"
    value: Annotated[str, Meta(max_length=_LONGEST, description="The value, with INLINE.")] = ""


class VmConfig(Spec, frozen=True):
    """The machine that runs the module."""

    env: Annotated[tuple[EnvVar, ...], Meta(description="Its environment.")] = ()


class Module(Spec, frozen=True):
    """A Wasm module, and how it is run: what either kind says of it."""

    url: Annotated[
        str, Meta(description="The module: file:///PATH, http(s)://, or oci:// (also without a scheme).")
    ] = ""
    sha256: Annotated[
        str, Meta(description="Checksum of the file or of what is fetched; of an OCI image its digest.")
    ] = ""
    image_pull_policy: Annotated[
        Literal["", "UNSPECIFIED_POLICY", "IfNotPresent", "Always"],
        Meta(description="When to ask for the module again; tag latest: Always."),
    ] = ""
    image_pull_secret: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=253,
            description="Secret of type kubernetes.io/dockerconfigjson in the same namespace, for the registry.",
        ),
    ] = ""
    verification_key: Annotated[str, Meta(description="Not used by Istio either.")] = ""
    plugin_config: Annotated[dict[str, Any] | None, Meta(description="The module's configuration, given as JSON.")] = (
        None
    )
    plugin_name: Annotated[
        str, Meta(min_length=1, max_length=256, description="Name of the plugin in the module (its root id).")
    ] = ""
    type: Annotated[
        Literal["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"],
        Meta(description="HTTP filters see requests, NETWORK filters bytes of TCP connections."),
    ] = "HTTP"
    fail_strategy: Annotated[
        Literal["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"],
        Meta(description="What happens where the module does not load or run."),
    ] = "FAIL_CLOSE"
    vm_config: Annotated[VmConfig | None, Meta(description="The machine that runs the module.")] = None


def traffic_problems(match: tuple[TrafficSelector, ...], path: FieldPath) -> Iterator[Problem]:
    """A port stands once in a list: the definitions of both kinds have maps of ports there."""
    for at, one in enumerate(match):
        numbers = [port.number for port in one.ports]
        for place, number in enumerate(numbers):
            if number in numbers[:place]:
                yield duplicate(path.child(at, "ports", place, "number"), f"{number} stands twice", "Remove one.")


def module_path(url: str) -> str:
    """The file of a `file://` URL, "" for others."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "file" else ""


def module_url(url: str) -> str:
    """The URL with its scheme: what has none names an OCI image."""
    return url if "://" in url else f"oci://{url}"


def module_problems(said: Module, path: FieldPath) -> Iterator[Problem]:
    """Istio's validation of a module, and what of it has no effect here."""
    wrong = tuple(_url(said.url, path / "url"))
    yield from wrong
    if not has_errors(wrong):
        yield from _fetching_problems(said, path)
    env = said.vm_config.env if said.vm_config is not None else ()
    where = path.child("vmConfig", "env")
    if len(env) > _MOST_VARIABLES:
        yield invalid(where, f"more than {_MOST_VARIABLES} variables")
    names = [one.name for one in env]
    for at, one in enumerate(env):
        if one.name in names[:at]:
            yield duplicate(where.child(at, "name"), f"duplicate env: {one.name}", "Remove one of the two.")
        if one.value_from == "HOST" and one.value:
            yield forbidden(where.child(at, "value"), "value may only be set when valueFrom is INLINE", "Remove it.")


def _fetching_problems(said: Module, path: FieldPath) -> Iterator[Problem]:
    if said.sha256 and not _SHA.match(said.sha256):
        yield invalid(path / "sha256", "sha256 field must match [a-f0-9]{64} pattern", "Give it in lower case.")
    for name, value in (
        ("imagePullPolicy", said.image_pull_policy not in ("", "UNSPECIFIED_POLICY")),
        ("imagePullSecret", said.image_pull_secret),
    ):
        if value and module_path(said.url):
            yield no_effect(path / name, "The module is a file; it is not fetched.")
    if said.image_pull_secret and urlsplit(module_url(said.url)).scheme in ("http", "https"):
        yield no_effect(path / "imagePullSecret", "It is for registries (oci://) only.")
    if said.verification_key:
        yield no_effect(path / "verificationKey", "Signatures are not verified: give sha256, or a digest in the URL.")


def _url(url: str, path: FieldPath) -> Iterator[Problem]:
    if not url:
        yield required(path, "url field needs to be set", "Such as file:///etc/envoy/module.wasm.")
        return
    if _NOT_IN_URLS.search(url):
        yield invalid(path, f"{url!r} is not a URL", "Write other characters as %XX.")
        return
    try:
        parts = urlsplit(module_url(url))
    except ValueError as error:
        yield invalid(path, f"not a URL: {error}")
        return
    scheme = parts.scheme if "://" in url else ""
    if scheme not in _SCHEMES:
        yield invalid(path, f"url has unsupported scheme {scheme!r}", "One of file, http, https and oci.")
    elif scheme != "file":
        if not parts.hostname or not parts.path.strip("/"):
            yield doubtful(path, "a module to fetch has a host and a path", "Such as oci://registry.test/plugin:1.")
    elif not module_path(url).startswith("/"):
        yield invalid(path, "a file needs an absolute path", "Such as file:///etc/envoy/module.wasm.")
