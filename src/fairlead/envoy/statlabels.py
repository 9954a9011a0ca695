"""Istio's metrics as Envoy counts them: one tag that holds all labels, to be taken apart when a page is shown.

A listener is sent to every proxy that has it, with its loggers; a tag for each of Istio's 25 labels, on each metric,
was most of it. What the agent knows anyway (its own workload's names) and what follows from other labels is left out.
Light enough for the agent: no Envoy message is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

Reporter = Literal["source", "destination"]

TAG = "labels"
SEPARATOR = "|"
FIELDS = ("reporter", "local", "peer", "service", "protocol", "code", "grpc", "flags", "workload")
"""The tag's parts: who counts; the principals at both ends of the connection to the peer; host, name and namespace of
the service that is called; `http` or `tcp`; code and gRPC status (both empty for TCP); Envoy's response flags; the
peer's introduction, which stands last because its content is the peer's."""
OMITTED = "omitted"
"""A further tag where a metric lacks some labels: their names. Labels that are set by an expression are tags, too."""
SERVICE_SEPARATOR = ";"
ABSENT = "-"
"""What Envoy writes for a value that is not there."""

# Istio's labels in Istio's order (reference: istio/proxy testdata/metric).
LABELS = (
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
)
REQUEST_MESSAGES = "istio_request_messages_total"
RESPONSE_MESSAGES = "istio_response_messages_total"
MESSAGES = {REQUEST_MESSAGES: 0, RESPONSE_MESSAGES: 1}
"""Metrics of gRPC messages, and which of the two numbers in the tag `COUNTS` they are."""
COUNTS = "messages"
"""A further tag of these: how many messages a stream had, `REQUESTS,RESPONSES`. No number can be made of that for
Envoy's logger to add, so it counts streams by how many messages they had."""
MESSAGES_PREFIX = "istio_grpc"
"""Under which Envoy counts these: apart, so that the variety of numbers takes no place from other metrics."""
HTTP_ONLY = frozenset(("response_code", "grpc_response_status"))
_PEER_NAMES = (
    "workload",
    "canonical_service",
    "canonical_revision",
    "workload_namespace",
    "app",
    "version",
    "cluster",
)


def unneeded(omitted: Iterable[str], reporter: Reporter) -> Iterator[str]:
    """The fields of which no label is left when these are left out."""
    gone = set(omitted)
    other = "destination" if reporter == "source" else "source"
    own = "source" if reporter == "source" else "destination"
    labels = {
        "local": {f"{own}_principal"},
        "peer": {f"{other}_principal", "connection_security_policy"},
        "service": {"destination_service", "destination_service_name", "destination_service_namespace"},
        "code": {"response_code"},
        "grpc": {"grpc_response_status", "request_protocol"},
        "flags": {"response_flags"},
        "workload": {f"{other}_{name}" for name in _PEER_NAMES},
    }
    yield from (field for field, needed in labels.items() if needed <= gone)
