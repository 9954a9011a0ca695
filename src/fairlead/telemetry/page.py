"""The metrics page: Envoy's Prometheus text under Istio's names, then the agent's and the application's own.

Envoy puts `envoy_` before every name and leaves absent values as `-`. Sample lines of one metric repeat few distinct
label sets, so a label set is rewritten once and remembered for the page.
"""

from __future__ import annotations

import re

_PREFIX = b"envoy_istio_"
_SAMPLE = re.compile(rb"envoy_(istio_[a-z_]+)\{(.*)\}([^}]*)", re.DOTALL)
_LABEL = re.compile(rb'([a-z_]+)="((?:[^"\\]|\\.)*)"')
_TYPE = re.compile(rb"# (TYPE|HELP) envoy_(istio_.*)", re.DOTALL)
_ABSENT = (b"-", b"")
_EXPOSITION_END = b"# EOF"


def merge(envoy: bytes, *others: bytes) -> bytes:
    """One page of several. A family that a later page repeats keeps its first `# TYPE` line only."""
    parts = [istio_names(envoy)]
    seen = _families(parts[0])
    for page in others:
        kept = [line for line in page.splitlines(keepends=True) if not _repeats(line, seen)]
        body = b"".join(kept)
        seen |= _families(body)
        parts.append(body)
    return b"".join(part if part.endswith(b"\n") or not part else part + b"\n" for part in parts)


def istio_names(page: bytes) -> bytes:
    """Envoy's page with Istio's metrics under Istio's names and values; all else unchanged."""
    labels: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    for line in page.splitlines(keepends=True):
        if line.startswith(_PREFIX):
            found = _SAMPLE.fullmatch(line)
            lines.append(_sample(found, labels) if found else line[len(b"envoy_") :])
        elif line.startswith(b"# ") and (found := _TYPE.fullmatch(line)):
            lines.append(b"# " + found[1] + b" " + found[2])
        else:
            lines.append(line)
    return b"".join(lines)


def _sample(found: re.Match[bytes], labels: dict[bytes, bytes]) -> bytes:
    raw = found[2]
    # The bucket bound comes last and changes with every line: the rest is what repeats.
    head, bound, tail = raw.partition(b'le="')
    rewritten = labels.get(head)
    if rewritten is None:
        rewritten = labels[head] = _rewrite(head)
    return found[1] + b"{" + rewritten + bound + tail + b"}" + found[3]


def _rewrite(raw: bytes) -> bytes:
    values = dict(_LABEL.findall(raw))
    if values.get(b"grpc_response_status", b"") in _ABSENT:
        if b"grpc_response_status" in values:
            values[b"grpc_response_status"] = b""
    else:  # Envoy knows a gRPC status only of gRPC calls
        values[b"request_protocol"] = b"grpc"
    policy = values.get(b"connection_security_policy")
    if policy is not None and policy != b"unknown":
        values[b"connection_security_policy"] = b"none" if policy in _ABSENT else b"mutual_tls"
    for name, value in values.items():
        if value in _ABSENT and name.startswith((b"source_", b"destination_")):
            values[name] = b"unknown"
    text = b",".join(name + b'="' + value + b'"' for name, value in values.items())
    return text + b"," if raw.endswith(b",") else text


def _families(page: bytes) -> set[bytes]:
    return {line.split()[2] for line in page.splitlines() if line.startswith(b"# TYPE ") and len(line.split()) > 2}


def _repeats(line: bytes, seen: set[bytes]) -> bool:
    if line.startswith(_EXPOSITION_END):
        return True
    if not line.startswith((b"# TYPE ", b"# HELP ")):
        return False
    words = line.split()
    return len(words) > 2 and words[2] in seen
