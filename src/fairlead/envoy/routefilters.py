"""What a route tells HTTP filters: injected faults and cross-origin sharing."""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.extensions.filters.common.fault.v3 import fault_pb2 as common_fault_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from google.protobuf.wrappers_pb2 import BoolValue

from fairlead.envoy.routevalues import duration, fraction, packed, runtime_fraction, string_matcher
from fairlead.ir.protocol import GRPC_STATUS
from fairlead.ir.route import Cors, Fault

FAULT_FILTER = "envoy.filters.http.fault"
CORS_FILTER = "envoy.filters.http.cors"


def set_filters(out: routes.Route, fault: Fault | None, cors: Cors | None) -> None:
    """Put the per-route configuration of the fault and the CORS filter onto a route."""
    if fault is not None:
        made = fault_config(fault)
        if made is not None:
            out.typed_per_filter_config[FAULT_FILTER].CopyFrom(packed(made))
    if cors is not None:
        out.typed_per_filter_config[CORS_FILTER].CopyFrom(packed(cors_config(cors)))


def fault_config(fault: Fault) -> fault_pb2.HTTPFault | None:
    """The fault filter's configuration; None if there is neither a delay nor an abort."""
    out = fault_pb2.HTTPFault()
    if fault.delay > 0:
        out.delay.CopyFrom(
            common_fault_pb2.FaultDelay(fixed_delay=duration(fault.delay), percentage=fraction(fault.delay_percent))
        )
    if fault.abort_status or fault.abort_grpc:
        out.abort.percentage.CopyFrom(fraction(fault.abort_percent))
        if fault.abort_status:
            out.abort.http_status = fault.abort_status
        else:
            out.abort.grpc_status = GRPC_STATUS.get(fault.abort_grpc.upper(), GRPC_STATUS["UNKNOWN"])
    return out if out.HasField("delay") or out.HasField("abort") else None


def cors_config(cors: Cors) -> cors_pb2.CorsPolicy:
    """The CORS filter's configuration. Preflights of other origins are forwarded unless the rule says otherwise."""
    out = cors_pb2.CorsPolicy(
        allow_origin_string_match=[string_matcher(one) for one in cors.origins],
        allow_methods=",".join(cors.methods),
        allow_headers=",".join(cors.headers),
        expose_headers=",".join(cors.expose),
        filter_enabled=runtime_fraction(100),
        forward_not_matching_preflights=BoolValue(value=cors.forward_unmatched_preflights is not False),
    )
    if cors.max_age is not None:
        out.max_age = str(int(cors.max_age))
    if cors.credentials is not None:
        out.allow_credentials.CopyFrom(BoolValue(value=cors.credentials))
    return out
