"""Retries of HTTP requests (Istio `retry.ConvertPolicy`)."""

from __future__ import annotations

from http import HTTPStatus

from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from fairlead.envoy.routevalues import duration, packed
from fairlead.ir.traffic import RetryPolicy

DEFAULT_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
_BY_STATUS = "retriable-status-codes"
_STATUS = frozenset(int(one) for one in HTTPStatus)
_DEFAULT = RetryPolicy(attempts=2)


def retry_policy(said: RetryPolicy | None, *, hashed: bool) -> routes.RetryPolicy | None:
    """Envoy's policy for what a rule or the mesh says; None switches retries off.

    By default a request is tried again twice, where it is safe to: when the upstream cannot have begun to handle it.
    A 503 is no such case (Istio since 1.24), `retryOn` may name it. With `hashed` destinations a retry goes to the same
    host, since that is what the hash is for.
    """
    policy = said or _DEFAULT
    if policy.attempts <= 0:
        return None
    conditions, codes = _conditions(policy.retry_on)
    out = routes.RetryPolicy(
        retry_on=conditions,
        retriable_status_codes=codes,
        num_retries=UInt32Value(value=policy.attempts),
        host_selection_retry_max_attempts=5,
    )
    if policy.ignore_previous_hosts and not hashed:
        out.retry_host_predicate.add(
            name="envoy.retry_host_predicates.previous_hosts",
            typed_config=packed(previous_hosts_pb2.PreviousHostsPredicate()),
        )
    if policy.per_try_timeout is not None:
        out.per_try_timeout.CopyFrom(duration(policy.per_try_timeout))
    if policy.backoff is not None:
        out.retry_back_off.base_interval.CopyFrom(duration(policy.backoff))
    if policy.retry_remote_localities:
        out.retry_priority.name = "envoy.retry_priorities.previous_priorities"
        out.retry_priority.typed_config.CopyFrom(
            packed(previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=2))
        )
    return out


def _conditions(retry_on: str) -> tuple[str, list[int]]:
    """Conditions and status codes apart: `5xx,503` is Istio's way to name both."""
    if not retry_on:
        return DEFAULT_RETRY_ON, []
    parts = [part.strip() for part in retry_on.split(",") if part.strip()]
    codes = [int(part) for part in parts if part.isdecimal() and int(part) in _STATUS]
    conditions = [part for part in parts if not (part.isdecimal() and int(part) in _STATUS)]
    if codes and _BY_STATUS not in conditions:
        conditions.append(_BY_STATUS)
    return ",".join(conditions), codes
