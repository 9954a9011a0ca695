"""The metrics page: Envoy's Prometheus text under Istio's names, then the agent's and the application's own.

Envoy puts `envoy_` before every name, has all of Istio's labels in one tag (`fairlead.envoy.statlabels`) and leaves
absent values as `-`. Sample lines of one metric repeat few distinct tags, so a tag is taken apart once for the page.
"""

from __future__ import annotations

import re

from fairlead.envoy.peer import NAMES, UNKNOWN, Workload, introduction
from fairlead.envoy.peer import SEPARATOR as NAME_SEPARATOR
from fairlead.envoy.statlabels import (
    ABSENT,
    COUNTS,
    FIELDS,
    HTTP_ONLY,
    LABELS,
    MESSAGES,
    MESSAGES_PREFIX,
    OMITTED,
    SEPARATOR,
    SERVICE_SEPARATOR,
    TAG,
)

_PREFIX = b"envoy_istio_"
_SAMPLE = re.compile(rb'envoy_(istio_[a-z_]+)\{%b="((?:[^"\\]|\\.)*)"(.*)' % TAG.encode(), re.DOTALL)
_OMITTED = re.compile(rb',%b="([A-Za-z0-9_;]*)"' % OMITTED.encode())
_EMPTY = re.compile(rb'="-?"')
_TYPE = re.compile(rb"# (TYPE|HELP) envoy_(istio_.*)", re.DOTALL)
_INTRODUCTION = re.compile(r"(?:[\w./-]+;){6}[\w./-]+", re.ASCII)
_NOBODY = NAME_SEPARATOR.join([UNKNOWN] * len(NAMES))
_COUNTED = re.compile(rb',%b="(?:(\d+),(\d+)|[^"]*)"' % COUNTS.encode())
_APART = MESSAGES_PREFIX.encode() + b"_"
_UNTOLD = HTTP_ONLY | {"response_flags", "connection_security_policy"}
_EXPOSITION_END = b"# EOF"


def merge(own: Workload, envoy: bytes, *others: bytes) -> bytes:
    """One page of several. A family that a later page repeats keeps its first `# TYPE` line only."""
    parts = [istio_names(own, envoy)]
    seen = _families(parts[0])
    for page in others:
        kept = [line for line in page.splitlines(keepends=True) if not _repeats(line, seen)]
        body = b"".join(kept)
        seen |= _families(body)
        parts.append(body)
    return b"".join(part if part.endswith(b"\n") or not part else part + b"\n" for part in parts)


def istio_names(own: Workload, page: bytes) -> bytes:
    """Envoy's page with Istio's metrics under Istio's names and labels; all else unchanged. `own` is who counts."""
    labels: dict[bytes, bytes] = {}
    mine = introduction(own)
    lines: list[bytes] = []
    sums = _Sums(lines)
    for line in page.splitlines(keepends=True):
        if line.startswith(_PREFIX):
            found = _SAMPLE.fullmatch(line)
            if found is None:
                lines.append(line[len(b"envoy_") :])
                continue
            if found[1].startswith(_APART):
                _count(sums, mine, _named(found[1]), found[2], found[3])
                continue
            omitted = _OMITTED.match(found[3])
            if omitted is not None:
                sums.add(found[1], _rewritten(mine, found[2], _names_in(omitted[1])), found[3][omitted.end() :])
                continue
            text = labels.get(found[2])
            if text is None:
                text = labels[found[2]] = _rewritten(mine, found[2])
            lines.append(found[1] + b"{" + text + found[3])
        elif line.startswith(b"# ") and (found := _TYPE.fullmatch(line)):
            lines.append(b"# " + found[1] + b" " + _named(found[2]))
        else:
            lines.append(line)
    sums.write()
    return b"".join(lines)


def _named(name: bytes) -> bytes:
    """Istio's name of a metric that Envoy counts apart."""
    return b"istio_" + name.removeprefix(_APART) if name.startswith(_APART) else name


def _count(sums: _Sums, mine: str, name: bytes, labels: bytes, rest: bytes) -> None:
    """Messages of gRPC: so many streams that had so many. Streams that had ended before they were counted have none."""
    counted = _COUNTED.match(rest)
    if counted is None or counted[1] is None:
        return
    rest = rest[counted.end() :]
    omitted = _OMITTED.match(rest)
    gone = _UNTOLD | _names_in(omitted[1] if omitted is not None else b"")
    more = rest[omitted.end() :] if omitted is not None else rest
    sums.add(name, _rewritten(mine, labels, gone), more, int(counted[1 + MESSAGES[name.decode()]]))


class _Sums:
    """Samples of which labels are left out: those that are alike without them are one sample, the sum.

    A sample takes the place of the first one of its kind. Buckets of a histogram add up as counters do.
    """

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines
        self._places: dict[bytes, int] = {}
        self._values: dict[bytes, float] = {}

    def add(self, name: bytes, labels: bytes, rest: bytes, times: int = 1) -> None:
        """`rest` is further labels, the closing brace and the value, which counts so many times."""
        more, brace, number = rest.rpartition(b"}")
        more = _EMPTY.sub(b'="unknown"', more)
        inside = b",".join(part for part in (labels, more.removeprefix(b",")) if part)
        key = name + b"{" + inside + brace
        if key not in self._places:
            self._places[key] = len(self._lines)
            self._lines.append(b"")
        try:
            self._values[key] = self._values.get(key, 0) + float(number) * times
        except ValueError:
            self._values.setdefault(key, 0)

    def write(self) -> None:
        """Put the sums in their places."""
        for key, place in self._places.items():
            self._lines[place] = b"%b %b\n" % (key, f"{self._values[key]:.17g}".encode())


def _names_in(text: bytes) -> frozenset[str]:
    return frozenset(text.decode("utf-8", "replace").split(SERVICE_SEPARATOR))


def _rewritten(mine: str, raw: bytes, omitted: frozenset[str] = frozenset()) -> bytes:
    """Istio's labels of a tag, without those `omitted`. Values stay escaped, as they came."""
    parts = raw.decode("utf-8", "surrogateescape").split(SEPARATOR, len(FIELDS) - 1)
    given: dict[str, str] = dict(zip(FIELDS, parts, strict=False))
    if len(given) < len(FIELDS):
        return b'%b="%b"' % (TAG.encode(), raw)
    labels = _labels(mine, given)
    wanted = (name for name in LABELS if (given["protocol"] != "tcp" or name not in HTTP_ONLY) and name not in omitted)
    return ",".join(f'{name}="{labels[name]}"' for name in wanted).encode("utf-8", "surrogateescape")


def _labels(mine: str, given: dict[str, str]) -> dict[str, str]:
    reporter = given["reporter"]
    me, other = ("source", "destination") if reporter == "source" else ("destination", "source")
    service = given["service"].split(SERVICE_SEPARATOR, 2)
    host, name, namespace = service if len(service) == 3 else (UNKNOWN,) * 3
    grpc = "" if given["grpc"] == ABSENT else given["grpc"]
    secured = UNKNOWN
    if reporter == "destination":
        secured = "none" if given["peer"] == ABSENT else "mutual_tls"
    labels = {
        "reporter": reporter,
        f"{me}_principal": _known(given["local"]),
        f"{other}_principal": _known(given["peer"]),
        "destination_service": _known(host),
        "destination_service_name": _known(name),
        "destination_service_namespace": _known(namespace),
        # Envoy knows a gRPC status only of gRPC calls.
        "request_protocol": "grpc" if grpc else given["protocol"],
        "response_code": given["code"],
        "grpc_response_status": grpc,
        "response_flags": given["flags"],
        "connection_security_policy": secured,
    }
    for side, said in ((me, mine), (other, given["workload"])):
        for (_, label), value in zip(NAMES, _names(said), strict=True):
            labels[f"{side}_{label}"] = value
    return labels


def _names(said: str) -> list[str]:
    """The names in an introduction.

    One that is none is shown as it is, marked by a character that names lack: whatever peers say, two tags never become
    the same labels, which would make the page invalid.
    """
    if said in (ABSENT, ""):  # empty: the endpoint that was chosen says nothing of itself
        return [UNKNOWN] * len(NAMES)
    if _INTRODUCTION.fullmatch(said) and said != _NOBODY:
        return said.split(NAME_SEPARATOR)
    return [f"invalid:{said}", *[UNKNOWN] * (len(NAMES) - 1)]


def _known(text: str) -> str:
    return UNKNOWN if text in (ABSENT, "") else text


def _families(page: bytes) -> set[bytes]:
    return {line.split()[2] for line in page.splitlines() if line.startswith(b"# TYPE ") and len(line.split()) > 2}


def _repeats(line: bytes, seen: set[bytes]) -> bool:
    if line.startswith(_EXPOSITION_END):
        return True
    if not line.startswith((b"# TYPE ", b"# HELP ")):
        return False
    words = line.split()
    return len(words) > 2 and words[2] in seen
