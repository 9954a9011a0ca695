"""Checks of retries, timeouts, injected faults and CORS."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from fairlead.ir.protocol import GRPC_STATUS
from fairlead.kinds.virtualservice import spec as api
from fairlead.kinds.virtualservice.headers import check_cors_header
from fairlead.model.diagnostic import Problem
from fairlead.model.duration import is_duration, parse_duration
from fairlead.model.findings import deprecated, doubtful, forbidden, invalid, required, unsupported
from fairlead.model.names import nearest
from fairlead.model.path import FieldPath
from fairlead.model.regex import regex_fault
from fairlead.model.syntax import wrong_duration

_RETRY_ON = frozenset(
    [
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    ]
)
"""Conditions of Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`."""
_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"])
_STATUS = frozenset(str(int(one)) for one in HTTPStatus)


def check_time(path: FieldPath, text: str | None) -> Iterator[Problem]:
    """A duration, if given."""
    if text is not None and (fault := wrong_duration(text)):
        yield invalid(path, fault, "Durations look like 1h, 30s or 250ms.")


def check_percent(path: FieldPath, percent: api.Percent | None, *, smallest: float = 0.0001) -> Iterator[Problem]:
    """A percentage, if given: 0, or from `smallest` to 100."""
    if percent is None:
        return
    value = percent.value
    if not 0 <= value <= 100 or 0 < value < smallest:
        allowed = f"0 or from {smallest} to 100" if smallest else "from 0 to 100"
        yield invalid(path / "value", f"percentage {value} is not {allowed}")


def check_retries(path: FieldPath, retries: api.HTTPRetry | None) -> Iterator[Problem]:
    """A retry policy."""
    if retries is None:
        return
    if retries.attempts < 0:
        yield invalid(path / "attempts", "attempts cannot be negative")
    configured = (retries.per_try_timeout, retries.retry_on or None, retries.retry_remote_localities)
    if retries.attempts == 0 and any(one is not None for one in configured):
        message = "retries are configured, and attempts is 0, which switches them off"
        yield invalid(path / "attempts", message, "Set attempts, or remove the other settings.")
    yield from check_time(path / "perTryTimeout", retries.per_try_timeout)
    yield from check_time(path / "backoff", retries.backoff)
    for condition in retries.retry_on.split(",") if retries.retry_on else ():
        if condition not in _RETRY_ON and condition not in _STATUS:
            near = nearest(condition, _RETRY_ON)
            remedy = f"Did you mean {near!r}?" if near else "Use Envoy's retry conditions or HTTP status codes."
            yield unsupported(path / "retryOn", f"{condition!r} is not a valid retryOn policy", remedy)


def check_fault(path: FieldPath, fault: api.HTTPFaultInjection | None) -> Iterator[Problem]:
    """Injected faults."""
    if fault is None:
        return
    if fault.abort is None and fault.delay is None:
        yield required(path, "HTTP fault injection must have an abort and/or a delay")
    yield from _abort(path / "abort", fault.abort)
    yield from _delay(path / "delay", fault.delay)


def _abort(path: FieldPath, abort: api.FaultAbort | None) -> Iterator[Problem]:
    if abort is None:
        return
    yield from check_percent(path / "percentage", abort.percentage)
    if sum(1 for one in (abort.http_status, abort.grpc_status, abort.http2_error) if one is not None) > 1:
        yield forbidden(path, "only one of httpStatus, grpcStatus and http2Error can be set")
    if abort.grpc_status is not None:
        if abort.grpc_status not in GRPC_STATUS:
            near = nearest(abort.grpc_status, GRPC_STATUS)
            remedy = f"Did you mean {near!r}?" if near else "Use a status name such as NOT_FOUND."
            yield unsupported(path / "grpcStatus", f"gRPC status {abort.grpc_status!r} is not supported", remedy)
    elif abort.http2_error is not None:
        yield unsupported(path / "http2Error", "HTTP/2 abort fault injection is not supported", "Use httpStatus.")
    elif abort.http_status is not None:
        if not 200 <= abort.http_status <= 600:
            yield invalid(path / "httpStatus", f"HTTP status {abort.http_status} is not in range 200-599")
    else:
        yield doubtful(path, "abort has no status, so that nothing is aborted", "Set httpStatus or grpcStatus.")
    if abort.percentage is None:
        yield doubtful(path, "abort has no percentage, so that no request is aborted", "Set percentage.")


def _delay(path: FieldPath, delay: api.FaultDelay | None) -> Iterator[Problem]:
    if delay is None:
        return
    yield from check_percent(path / "percentage", delay.percentage)
    if delay.percent:
        if not 0 <= delay.percent <= 100:
            yield invalid(path / "percent", f"percentage {delay.percent} is not in range 0..100")
        yield deprecated(path / "percent", "percentage")
    elif delay.percentage is None:
        yield doubtful(path, "delay has no percentage, so that no request is delayed", "Set percentage.")
    yield from check_time(path / "fixedDelay", delay.fixed_delay)
    if delay.exponential_delay is not None:
        yield unsupported(path / "exponentialDelay", "exponentialDelay is not supported", "Use fixedDelay.")


def check_cors(path: FieldPath, policy: api.CorsPolicy | None) -> Iterator[Problem]:
    """A CORS policy."""
    if policy is None:
        return
    if policy.allow_origin:
        yield deprecated(path / "allowOrigin", "allowOrigins")
    for at, origin in enumerate(policy.allow_origins):
        yield from _origin(path.child("allowOrigins", at), origin)
    for at, method in enumerate(policy.allow_methods):
        if method not in _METHODS and method != "*":
            yield unsupported(path.child("allowMethods", at), f"{method!r} is not a supported HTTP method")
    for field, names in (("allowHeaders", policy.allow_headers), ("exposeHeaders", policy.expose_headers)):
        for at, name in enumerate(names):
            yield from check_cors_header(path.child(field, at), name)
    yield from check_time(path / "maxAge", policy.max_age)
    if policy.max_age is not None and is_duration(policy.max_age) and parse_duration(policy.max_age) % 1:
        yield invalid(path / "maxAge", f"{policy.max_age} is not a whole number of seconds")


def _origin(path: FieldPath, origin: api.StringMatch) -> Iterator[Problem]:
    given = [one for one in (origin.exact, origin.prefix, origin.regex) if one is not None]
    if len(given) > 1:
        yield forbidden(path, "only one of exact, prefix and regex can be set", "Leave one.")
    elif not given or not given[0]:
        yield required(path, "an allowed origin is empty", "Use exact: '*' for all origins.")
    elif origin.regex is not None and (fault := regex_fault(origin.regex)):
        yield invalid(path / "regex", fault, "Regular expressions are RE2's.")
