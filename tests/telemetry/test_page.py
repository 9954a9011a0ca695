"""The metrics page, as text."""

from __future__ import annotations

from fairlead.telemetry.page import istio_names, merge

ENVOY = b"""# TYPE envoy_cluster_upstream_cx_active gauge
envoy_cluster_upstream_cx_active{envoy_cluster_name="a"} 1

# TYPE envoy_istio_requests_total counter
envoy_istio_requests_total{reporter="destination",source_workload="-",\
request_protocol="http",response_code="200",grpc_response_status="",\
response_flags="-",connection_security_policy="-"} 7
envoy_istio_requests_total{reporter="destination",source_workload="web",\
request_protocol="http",grpc_response_status="0",\
response_flags="-",connection_security_policy="spiffe://a"} 2
# TYPE envoy_istio_request_bytes histogram
envoy_istio_request_bytes_bucket{source_workload="-",le="0.5"} 0
envoy_istio_request_bytes_bucket{source_workload="-",le="+Inf"} 3
envoy_istio_request_bytes_sum{source_workload="-"} 12
"""


def test_istios_names_and_values() -> None:
    page = istio_names(ENVOY).decode().splitlines()
    assert page[:2] == ENVOY.decode().splitlines()[:2], "Envoy's own metrics stay"
    assert page[3:] == [
        "# TYPE istio_requests_total counter",
        'istio_requests_total{reporter="destination",source_workload="unknown",request_protocol="http",'
        'response_code="200",grpc_response_status="",response_flags="-",connection_security_policy="none"} 7',
        'istio_requests_total{reporter="destination",source_workload="web",request_protocol="grpc",'
        'grpc_response_status="0",response_flags="-",connection_security_policy="mutual_tls"} 2',
        "# TYPE istio_request_bytes histogram",
        'istio_request_bytes_bucket{source_workload="unknown",le="0.5"} 0',
        'istio_request_bytes_bucket{source_workload="unknown",le="+Inf"} 3',
        'istio_request_bytes_sum{source_workload="unknown"} 12',
    ]


def test_escaped_labels_survive() -> None:
    line = b'envoy_istio_requests_total{source_app="a\\"},b",source_version="-"} 1\n'
    assert istio_names(line) == b'istio_requests_total{source_app="a\\"},b",source_version="unknown"} 1\n'


def test_pages_merge_without_repeated_types() -> None:
    merged = merge(b"# TYPE a counter\na 1", b'# TYPE a counter\na{x="y"} 2\n# EOF\n', b"")
    assert merged == b'# TYPE a counter\na 1\na{x="y"} 2\n'
