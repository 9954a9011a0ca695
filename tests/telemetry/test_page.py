"""The metrics page, as text."""

from __future__ import annotations

from fairlead.envoy.peer import Workload, introduction
from fairlead.telemetry.page import istio_names, merge

OWN = Workload.of("reviews-v2", "shop", {"app": "reviews", "version": "v2"}, "Kubernetes")
ENVOY = b"""# TYPE envoy_cluster_upstream_cx_active gauge
envoy_cluster_upstream_cx_active{envoy_cluster_name="a"} 1

# TYPE envoy_istio_requests_total counter
envoy_istio_requests_total{labels="destination|-|-|reviews.shop;reviews;shop|http|200|-|-|-"} 7
envoy_istio_requests_total{labels="destination|spiffe://b|spiffe://a|-|http|200|0|UF,URX|web;shop;web;v1;web;v1;K"} 2
# TYPE envoy_istio_request_bytes histogram
envoy_istio_request_bytes_bucket{labels="source|-|spiffe://b|-|http|404|-|-|-",le="0.5"} 0
envoy_istio_request_bytes_bucket{labels="source|-|spiffe://b|-|http|404|-|-|-",le="+Inf"} 3
envoy_istio_request_bytes_sum{labels="source|-|spiffe://b|-|http|404|-|-|-"} 12
# TYPE envoy_istio_tcp_sent_bytes_total counter
envoy_istio_tcp_sent_bytes_total{labels="source|-|-|-|tcp|||-|-"} 5
"""
MINE = (
    'destination_workload="reviews-v2",destination_workload_namespace="shop",destination_principal="{}",'
    'destination_app="reviews",destination_version="v2",destination_service="{}",'
    'destination_canonical_service="reviews",destination_canonical_revision="v2",destination_service_name="{}",'
    'destination_service_namespace="{}",destination_cluster="Kubernetes"'
)


def test_istios_names_and_labels() -> None:
    page = istio_names(OWN, ENVOY).decode().splitlines()
    assert page[:2] == ENVOY.decode().splitlines()[:2], "Envoy's own metrics stay"
    unknown = (
        'source_workload="unknown",source_canonical_service="unknown",source_canonical_revision="unknown",'
        'source_workload_namespace="unknown",source_principal="unknown",source_app="unknown",'
        'source_version="unknown",source_cluster="unknown"'
    )
    web = (
        'source_workload="web",source_canonical_service="web",source_canonical_revision="v1",'
        'source_workload_namespace="shop",source_principal="spiffe://a",source_app="web",'
        'source_version="v1",source_cluster="K"'
    )
    assert page[3:6] == [
        "# TYPE istio_requests_total counter",
        f'istio_requests_total{{reporter="destination",{unknown},'
        f'{MINE.format("unknown", "reviews.shop", "reviews", "shop")},request_protocol="http",response_code="200",'
        'grpc_response_status="",response_flags="-",connection_security_policy="none"} 7',
        f'istio_requests_total{{reporter="destination",{web},'
        f'{MINE.format("spiffe://b", "unknown", "unknown", "unknown")},request_protocol="grpc",response_code="200",'
        'grpc_response_status="0",response_flags="UF,URX",connection_security_policy="mutual_tls"} 2',
    ]
    assert page[6] == "# TYPE istio_request_bytes histogram"
    assert page[7].startswith('istio_request_bytes_bucket{reporter="source",source_workload="reviews-v2",')
    assert page[7].endswith('connection_security_policy="unknown",le="0.5"} 0')
    assert page[8].endswith(',le="+Inf"} 3')
    assert page[9].startswith("istio_request_bytes_sum{")
    assert page[9].endswith('connection_security_policy="unknown"} 12')
    assert 'request_protocol="tcp",response_flags="-",connection_security_policy="unknown"} 5' in page[11]
    assert "response_code" not in page[11]


def test_messages_of_grpc_are_streams_by_how_many_they_had() -> None:
    """Envoy counts streams with so many messages; series that differ in that only are one, with Istio's labels."""
    labels = "source|spiffe://a|spiffe://b|web.shop;web;shop|grpc||||web;shop;web;v1;web;v1;K"
    name = "# TYPE envoy_istio_grpc_%s_messages_total counter\n"
    sample = 'envoy_istio_grpc_%s_messages_total{labels="%s",messages="%s"%s} %d\n'
    lines = [
        name % "request",
        sample % ("request", labels, "1,1", "", 7),
        sample % ("request", labels, "3,0", "", 2),
        sample % ("request", labels, "-", "", 5),
        name % "response",
        sample % ("response", labels, "1,1", ',omitted="source_app",tier="a"', 7),
        sample % ("response", labels, "2,9", ',omitted="source_app",tier="a"', 1),
    ]
    request, response = (
        one for one in istio_names(OWN, "".join(lines).encode()).decode().splitlines() if not one.startswith("#")
    )
    assert request.startswith('istio_request_messages_total{reporter="source",source_workload="reviews-v2"')
    assert request.endswith("} 13") and response.endswith(',tier="a"} 16')
    for part in ('destination_workload="web"', 'destination_service_name="web"', 'source_principal="spiffe://a"'):
        assert part in request and part in response
    assert 'request_protocol="grpc"}' in request and "response_code" not in request
    assert "source_app" in request and "source_app" not in response
    assert b"# TYPE istio_request_messages_total counter" in istio_names(OWN, lines[0].encode())
    assert istio_names(OWN, ENVOY).count(b"messages_total") == 0


def test_whatever_peers_say_samples_stay_apart() -> None:
    said = ["-", "a", "a;b", "invalid:a", *(";".join(["unknown"] * n) for n in (1, 6, 7, 8)), "a|b;c", 'a\\"},b']
    lines = [b'envoy_istio_requests_total{labels="destination|-|-|-|http|200|-|-|%b"} 1' % one.encode() for one in said]
    page = istio_names(OWN, b"\n".join(lines)).decode().splitlines()
    assert len(set(page)) == len(said)
    assert all(line.endswith("} 1") and line.count('reporter="destination"') == 1 for line in page)
    assert 'source_workload="invalid:a\\"},b",' in page[-1], "escapes survive"


def test_names_that_are_none_do_not_break_the_introduction() -> None:
    assert introduction(Workload("a;b\r\nx", "n|s")) == "a_b__x;n_s;unknown;unknown;unknown;unknown;unknown"


def test_other_metrics_of_that_prefix_pass() -> None:
    assert istio_names(OWN, b'envoy_istio_build{a="b"} 1\nenvoy_istio_x 2\n') == b'istio_build{a="b"} 1\nistio_x 2\n'


def test_pages_merge_without_repeated_types() -> None:
    merged = merge(OWN, b"# TYPE a counter\na 1", b'# TYPE a counter\na{x="y"} 2\n# EOF\n', b"")
    assert merged == b'# TYPE a counter\na 1\na{x="y"} 2\n'
