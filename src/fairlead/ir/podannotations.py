"""Annotations that Istio reads from pods, on objects that start workloads here: what each says, or why it says nothing.

Where one says what the annotation `proxy.istio.io/config` says too, the single one wins, as in Istio.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fairlead.model.capturing import ANNOTATIONS as CAPTURE
from fairlead.model.capturing import split
from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.duration import is_duration, parse_duration
from fairlead.model.findings import NO_EFFECT, doubtful
from fairlead.model.launch import ProxySettings, StatsInclusion
from fairlead.model.names import nearest
from fairlead.model.path import FieldPath
from fairlead.model.regex import regex_fault

WRONG = "FL3300"
RESOURCE = "resource.opentelemetry.io/"
"""What attributes of a service in traces begin with, after which follows the attribute's name (OpenTelemetry)."""
_LEVELS = ("trace", "debug", "info", "warning", "warn", "error", "critical", "off")
_COMPONENT = re.compile(r"[a-z0-9_.]+\Z")
_FLUSH = 5.0
"""Seconds between two flushes of Envoy's statistics where nobody says it."""

_INCLUSION = {
    "sidecar.istio.io/statsInclusionPrefixes": "prefixes",
    "sidecar.istio.io/statsInclusionSuffixes": "suffixes",
    "sidecar.istio.io/statsInclusionRegexps": "regexps",
}


def _level(text: str) -> str:
    if text not in _LEVELS:
        raise ValueError(f"{text!r} is not a level of Envoy's log: {', '.join(_LEVELS)}")
    return text


def _levels(text: str) -> str:
    for one in split(text):
        name, colon, level = one.partition(":")
        if not colon or not _COMPONENT.match(name):
            raise ValueError(f"{one!r} is not COMPONENT:LEVEL")
        _level(level)
    return ",".join(split(text))


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text == "true"


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 5 or not 0 < int(text) < 65536:
        raise ValueError(f"{text!r} is not a port")
    return int(text)


def _seconds(text: str) -> float:
    if not is_duration(text) or parse_duration(text) <= 0:
        raise ValueError(f"{text!r} is not a duration")
    return parse_duration(text)


def _tags(text: str) -> tuple[str, ...]:
    for one in split(text):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", one, re.ASCII):
            raise ValueError(f"{one!r} is not a tag")
    return split(text)


def _buckets(text: str) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Buckets of histograms whose names begin so: a JSON object of lists."""
    try:
        said: Any = json.loads(text)
        made = tuple((str(name), tuple(float(one) for one in said[name])) for name in said)
    except (ValueError, TypeError, KeyError):
        raise ValueError('not a JSON object of lists of numbers, such as {"istiocustom": [1, 5, 10]}') from None
    for _, limits in made:
        if not limits or any(one <= 0 for one in limits) or list(limits) != sorted(set(limits)):
            raise ValueError("buckets must be above 0, and each above the one before")
    return made


_SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "prometheus.istio.io/merge-metrics": ("merge_metrics", _flag),
    "sidecar.istio.io/componentLogLevel": ("component_log_level", _levels),
    "sidecar.istio.io/extraStatTags": ("extra_stat_tags", _tags),
    "sidecar.istio.io/logLevel": ("log_level", _level),
    "sidecar.istio.io/statsCompression": ("stats_compression", _flag),
    "sidecar.istio.io/statsEvictionInterval": ("stats_eviction_seconds", _seconds),
    "sidecar.istio.io/statsFlushInterval": ("stats_flush_seconds", _seconds),
    "sidecar.istio.io/statsHistogramBuckets": ("histogram_buckets", _buckets),
    "status.sidecar.istio.io/port": ("status_port", _port),
}
"""Annotations that are settings of a proxy's start: the field, and what reads it (ValueError: what is wrong)."""

_RESOURCES = "A node sets no limits of processor and memory: limit the node's own service."
_INSTALLED = "Agents start the Envoy that is installed with them, or the one that their node is given."
_READINESS = "A replica is ready when its Envoy and its application are: give it a readinessProbe."
_PROBES = "Probes are run beside the application: mutual TLS does not concern them."
_FILES = "A proxy has the files of its host."
_AMBIENT = "There is no ambient mode."
_IDLE = {
    "ambient.istio.io/bypass-inbound-capture": _AMBIENT,
    "ambient.istio.io/dns-capture": _AMBIENT,
    "ambient.istio.io/redirection": _AMBIENT,
    "inject.istio.io/templates": "Nothing is injected here.",
    "readiness.status.sidecar.istio.io/applicationPorts": _READINESS,
    "readiness.status.sidecar.istio.io/failureThreshold": _READINESS,
    "readiness.status.sidecar.istio.io/initialDelaySeconds": _READINESS,
    "readiness.status.sidecar.istio.io/periodSeconds": _READINESS,
    "sidecar.istio.io/agentLogLevel": "The agents of a node log at level info.",
    "sidecar.istio.io/bootstrapOverride": "Change the bootstrap by an EnvoyFilter with applyTo: BOOTSTRAP.",
    "sidecar.istio.io/controlPlaneAuthPolicy": "Agents always speak mutual TLS with the control plane.",
    "sidecar.istio.io/discoveryAddress": "Agents are told by their node where the control plane is.",
    "sidecar.istio.io/inject": "Say by the field proxy of a Process whether it has a proxy: sidecar, router or none.",
    "sidecar.istio.io/nativeSidecar": "An application is never started before its proxy has its configuration.",
    "sidecar.istio.io/proxyCPU": _RESOURCES,
    "sidecar.istio.io/proxyCPULimit": _RESOURCES,
    "sidecar.istio.io/proxyImage": _INSTALLED,
    "sidecar.istio.io/proxyImageType": _INSTALLED,
    "sidecar.istio.io/proxyMemory": _RESOURCES,
    "sidecar.istio.io/proxyMemoryLimit": _RESOURCES,
    "sidecar.istio.io/rewriteAppHTTPProbers": _PROBES,
    "sidecar.istio.io/statsHistogramBins": "Give buckets by sidecar.istio.io/statsHistogramBuckets.",
    "sidecar.istio.io/userVolume": _FILES,
    "sidecar.istio.io/userVolumeMount": _FILES,
    **dict.fromkeys(
        CAPTURE, "A Process has no other way out than its proxy; `fairlead capture` makes rules of a host."
    ),
}
"""Annotations that mean nothing to a workload here, and why."""
_OTHERS = frozenset(
    (
        "galley.istio.io/analyze-suppress",
        "gateway.istio.io/controller-version",
        "istio.io/dry-run",
        "istio.io/rev",
        "proxy.istio.io/config",
        "proxy.istio.io/overrides",
        "sidecar.istio.io/status",
    )
)
"""Annotations of which others speak, or that say nothing to anybody."""


def annotated(annotations: Mapping[str, str]) -> ProxySettings:
    """What single annotations say of a proxy's start; one that is wrong says nothing."""
    said: dict[str, Any] = {}
    for name, (field, read) in _SETTINGS.items():
        if name in annotations:
            try:
                said[field] = read(annotations[name])
            except ValueError:
                continue
    inclusion = {field: split(annotations[name]) for name, field in _INCLUSION.items() if annotations.get(name)}
    if inclusion and not any(map(regex_fault, inclusion.get("regexps", ()))):
        said["stats"] = StatsInclusion(**inclusion)
    resource = {name.removeprefix(RESOURCE): text for name, text in annotations.items() if name.startswith(RESOURCE)}
    return ProxySettings(**said, resource=resource or None)


def names_settings(name: str) -> bool:
    """Whether an annotation says something of a proxy's start, so that a change needs another start."""
    return name in _SETTINGS or name in _INCLUSION or name.startswith(RESOURCE)


def pod_annotation_problems(annotations: Mapping[str, str], path: FieldPath) -> Iterator[Problem]:
    """What is wrong with annotations of Istio's that a workload has; `path` is that of the annotations."""
    known = (*_SETTINGS, *_INCLUSION, *_IDLE, *_OTHERS)
    for name, text in sorted(annotations.items()):
        where = path / name
        if name in _SETTINGS:
            try:
                _SETTINGS[name][1](text)
            except ValueError as error:
                yield Problem(where, str(error), remedy="Correct it, or remove it.", code=WRONG)
        elif name in _INCLUSION:
            wrong = [fault for one in split(text) if _INCLUSION[name] == "regexps" and (fault := regex_fault(one))]
            yield from (Problem(where, one, remedy="Use the syntax of RE2.", code=WRONG) for one in wrong)
        elif name in _IDLE:
            yield Problem(where, f"{name} has no effect", Severity.WARNING, _IDLE[name], NO_EFFECT)
        elif name.partition("/")[0].endswith("istio.io") and name not in _OTHERS:
            near = nearest(name, known)
            yield doubtful(where, f"there is no annotation {name}", f"Did you mean {near}?" if near else "Remove it.")
    flush, eviction = (annotations.get(f"sidecar.istio.io/stats{one}Interval") for one in ("Flush", "Eviction"))
    if eviction and is_duration(eviction) and (not flush or is_duration(flush)):
        rest = parse_duration(eviction) / ((parse_duration(flush) if flush else _FLUSH) or _FLUSH)
        if rest < 1 or abs(rest - round(rest)) > 1e-6:
            where = path / "sidecar.istio.io/statsEvictionInterval"
            remedy = f"Statistics are flushed every {flush or '5s'}: give a multiple of that."
            yield Problem(where, f"{eviction} is no multiple of the flush interval", remedy=remedy, code=WRONG)
