"""`connectionSettings` of ProxyConfig, in the listeners and clusters of sidecars and gateways."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager as Manager,
)
from msgspec.structs import replace
from tests.compiler.test_meshsettings import EDGE, INBOUND, OUTBOUND, SERVED, SIDECAR, compiled, manager, mesh_of

from fairlead.compiler.publish import Catalog
from fairlead.envoy.resource import CLUSTER, LISTENER
from fairlead.ir.mesh import Mesh
from fairlead.ir.proxyown import own_settings
from fairlead.ir.proxystart import ANNOTATION, effective, layers_of
from fairlead.ir.view import View


def told_of(catalog: Catalog, listener: str) -> dict[str, object]:
    """What a connection manager says of clients' connections."""
    one = manager(catalog, listener)
    common, http2 = one.common_http_protocol_options, one.http2_protocol_options
    return {
        "idle": common.idle_timeout.seconds,
        "stream idle": one.stream_idle_timeout.seconds,
        "request": (one.request_timeout.seconds, one.request_headers_timeout.seconds),
        "streams": http2.max_concurrent_streams.value,
        "windows": (http2.initial_stream_window_size.value, http2.initial_connection_window_size.value),
        "underscores": common.headers_with_underscores_action,
        "merge": one.merge_slashes,
        "escaped": one.path_with_escaped_slashes_action,
    }


EDGES = {
    "idle": 3600, "stream idle": 300, "request": (300, 60), "streams": 100, "windows": (65536, 1048576),
    "underscores": 1, "merge": True, "escaped": Manager.UNESCAPE_AND_REDIRECT,
}  # fmt: skip


def buffers(catalog: Catalog) -> tuple[set[int], set[int]]:
    """Bytes that are kept of connections, of all listeners and of all clusters."""
    listeners = (Listener.FromString(one.body) for one in catalog[LISTENER].values())
    clusters = (Cluster.FromString(one.body) for one in catalog[CLUSTER].values())
    return (
        {one.per_connection_buffer_limit_bytes.value for one in listeners},
        {one.per_connection_buffer_limit_bytes.value for one in clusters},
    )


def durations(catalog: Catalog) -> list[tuple[int, int, int]]:
    managers = [manager(catalog, name) for name in (INBOUND, OUTBOUND)]
    common = [one.common_http_protocol_options for one in managers]
    return [
        (said.max_connection_duration.seconds, said.max_stream_duration.seconds, one.drain_timeout.nanos)
        for said, one in zip(common, managers, strict=True)
    ]


def at_the_edge(catalog: Catalog) -> dict[str, object]:
    return told_of(catalog, SERVED)


CASES: list[tuple[str, View, Callable[[Catalog], object], object]] = [
    ("profile: EDGE", EDGE, at_the_edge, EDGES),
    (
        "profile: EDGE, httpIdleTimeout: 5s, httpHeadersWithUnderscoresAction: HEADERS_WITH_UNDERSCORES_ALLOW,"
        " httpMergeSlashes: false, httpPathWithEscapedSlashesAction: KEEP_UNCHANGED",
        EDGE,
        at_the_edge,
        EDGES | {"idle": 5, "underscores": 0, "merge": False, "escaped": 1},
    ),
    ("profile: EDGE", EDGE, buffers, ({32768}, {32768})),
    (
        "listenerPerConnectionBufferLimitBytes: 12345, clusterPerConnectionBufferLimitBytes: 23456",
        SIDECAR,
        buffers,
        ({12345}, {23456}),
    ),
    (
        "httpMaxConnectionDuration: 60s, httpMaxStreamDuration: 7s, httpDrainTimeout: 1500ms",
        SIDECAR,
        durations,
        [(60, 7, 500000000)] * 2,
    ),
]


@pytest.mark.parametrize(("said", "view", "shown", "wanted"), CASES, ids=[case[0] for case in CASES])
def test_settings_are_what_proxies_get(
    said: str, view: View, shown: Callable[[Catalog], object], wanted: object
) -> None:
    assert shown(compiled(f"{{defaultConfig: {{connectionSettings: {{{said}}}}}}}", view)) == wanted
    assert shown(compiled("{}", view)) != wanted, "it is so without the setting"


@pytest.mark.parametrize(("profile", "view"), [("EDGE", SIDECAR), ("SIDECAR", EDGE)])
def test_the_profile_of_the_edge_is_for_gateways_alone(profile: str, view: View) -> None:
    said = f"{{defaultConfig: {{connectionSettings: {{profile: {profile}}}}}}}"
    assert compiled(said, view) == compiled("{}", view)


def test_a_workloads_own_connection_settings_replace_the_meshs() -> None:
    """As a whole, as each field of ProxyConfig does; the connection limit alone replaces them, too."""
    model = mesh_of("{defaultConfig: {connectionSettings: {profile: EDGE, httpIdleTimeout: 7s}}}")
    for said, idle, kept in (
        ("{httpMaxConcurrentStreams: 5}", 0, ({0}, {0})),
        ("{profile: EDGE, clusterPerConnectionBufferLimitBytes: 9}", 3600, ({32768}, {9})),
        ("{globalDownstreamConnectionLimit: 9}", 0, ({0}, {0})),
    ):
        start = effective(layers_of(Mesh(), (), "shop", {}), {ANNOTATION: f"{{connectionSettings: {said}}}"})
        mine = model.compile(replace(EDGE, own=own_settings(start.settings.own)))
        assert manager(mine, SERVED).common_http_protocol_options.idle_timeout.seconds == idle, said
        assert buffers(mine) == kept, said
    assert manager(model.compile(EDGE), SERVED).common_http_protocol_options.idle_timeout.seconds == 7
