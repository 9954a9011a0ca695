"""Access log lines, in the formats that proxies write by default (text and JSON), as requests."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from fairlead.envoy.accesslog import JSON_FIELDS, TEXT_FORMAT
from fairlead.simulate.request import Request

_OPERATOR = re.compile(r"%(?:[^%(]|\([^)]*\))+%")


class Logged(msgspec.Struct, frozen=True):
    """What a line says of a request. `inbound`: the called workload's proxy wrote it; `peer` is who connected to it.

    `endpoint` is the instance (ADDRESS:PORT) that got the request, as far as one did.
    """

    request: Request
    inbound: bool
    peer: str
    status: int
    flags: str
    details: str
    cluster: str
    request_id: str = ""
    endpoint: str = ""


def _pattern() -> re.Pattern[str]:
    """The text format as a regular expression with a group for each field."""
    names = {operator: name for name, operator in JSON_FIELDS.items()}
    out: list[str] = []
    at = 0
    for found in _OPERATOR.finditer(TEXT_FORMAT.rstrip("\n")):
        before = TEXT_FORMAT[at : found.start()]
        out.append(re.escape(before))
        quoted = before.endswith('"') or names[found[0]] in ("path", "protocol")
        space = r"[^\"]*?" if quoted else r"\S*?"
        values = r"[^\]]*" if names[found[0]] == "start_time" else space
        out.append(f"(?P<{names[found[0]]}>{values})")
        at = found.end()
    out.append(re.escape(TEXT_FORMAT.rstrip("\n")[at:]))
    return re.compile("".join(out))


_TEXT = _pattern()


def parse(line: str) -> Logged:
    """The request of a line. Raises ValueError where it is in neither format."""
    text = line.strip()
    start = text.find("{")
    fields: dict[str, Any]
    if start >= 0 and text.endswith("}"):
        try:
            fields = msgspec.json.decode(text[start:], type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise ValueError(f"the line is not JSON: {error}") from None
    else:
        found = _TEXT.search(text)
        if found is None:
            raise ValueError("the line is not in the mesh's access log format, neither text nor JSON")
        fields = found.groupdict()
    said = {name: "" if value in (None, "-") else str(value) for name, value in fields.items()}
    missing = [name for name in ("response_code", "upstream_cluster", "downstream_local_address") if name not in said]
    if missing:
        raise ValueError(f"the line has no {missing[0]}: only the default fields can be understood")
    return _logged(said)


def _logged(said: dict[str, str]) -> Logged:
    cluster = said["upstream_cluster"]
    inbound = cluster.startswith("inbound|") or cluster == "InboundPassthroughCluster" or _is_inbound(said)
    address, _, port = said["downstream_local_address"].rpartition(":")
    host, _, host_port = said.get("authority", "").partition(":")
    parts = cluster.split("|")
    http = bool(said.get("method"))
    named = parts[3] if len(parts) == 4 and parts[3] else host or address
    number = int(parts[1]) if len(parts) == 4 and parts[1] and not inbound else int(host_port or port or 0)
    request = Request(
        host=host or named,
        port=number,
        path=said.get("path") or "/",
        method=said.get("method") or "GET",
        headers=(("user-agent", said["user_agent"]),) if said.get("user_agent") else (),
        protocol="tcp" if not http else "http2" if said.get("protocol", "").startswith("HTTP/2") else "http",
        authority=said.get("authority", ""),
        address="" if host or not inbound else address,
        tls=bool(said.get("requested_server_name")) and not inbound,
        sni=said.get("requested_server_name", "") if not inbound else "",
    )
    return Logged(
        request,
        inbound,
        said.get("downstream_remote_address", "").rpartition(":")[0],
        int(said["response_code"] or 0),
        said.get("response_flags", ""),
        said.get("response_code_details", ""),
        cluster,
        said.get("request_id", ""),
        "" if inbound else said.get("upstream_host", ""),
    )


def _is_inbound(said: dict[str, str]) -> bool:
    """Whether a line without a cluster was written by the server's side: mesh clients name the server in SNI."""
    return not said["upstream_cluster"] and said.get("requested_server_name", "").startswith("outbound_.")
