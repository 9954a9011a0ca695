"""What of ProxyConfig a proxy is started with, what is wrong with it, and which of its fields have no effect."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from fairlead.ir.clienttls import ClientTLSSettings
from fairlead.ir.proxyconfig import (
    ConnectionSettings,
    KeepaliveSettings,
    ProxyConfig,
    RemoteService,
    StatsMatcher,
    Tracing,
)
from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.duration import is_duration, parse_duration
from fairlead.model.launch import STATUS_PORT, Collector, ProxySettings, StatsInclusion
from fairlead.model.path import FieldPath
from fairlead.model.regex import regex_fault
from fairlead.model.syntax import is_ip, port_problems

AT_START = frozenset(
    (
        "ca_certificates_pem",
        "concurrency",
        "connection_settings",
        "drain_duration",
        "envoy_metrics_service",
        "extra_stat_tags",
        "file_flush_interval",
        "file_flush_min_size_kb",
        "mesh_id",
        "proxy_metadata",
        "proxy_stats_matcher",
        "readiness_probe",
        "runtime_values",
        "service_cluster",
        "stats_compression",
        "statsd_udp_address",
        "status_port",
        "termination_drain_duration",
        "tracing_service_name",
    )
)
"""Fields that a proxy takes up when it starts."""
REASONS = {
    "availability_zone": "Say the locality of a workload in its WorkloadEntry or to its node.",
    "binary_path": "Agents start the Envoy that is installed with them, or the one that their node is given.",
    "config_path": "Each agent has a directory of its own.",
    "control_plane_auth_policy": "Agents always speak mutual TLS with the control plane.",
    "custom_config_file": "Change the bootstrap by an EnvoyFilter with applyTo: BOOTSTRAP.",
    "discovery_address": "Agents are told by their node where the control plane is.",
    "discovery_refresh_delay": "Changes are pushed.",
    "envoy_metrics_service_address": "Use envoyMetricsService.",
    "envoy_access_log_service": "Say it in MeshConfig's defaultConfig, for all proxies.",
    "hold_application_until_proxy_starts": "An application is never started before its proxy has its configuration.",
    "image": "Agents start the Envoy that is installed with them.",
    "interception_mode": "A Process says it by `capture`.",
    "parent_shutdown_duration": "Envoy is not restarted while it runs.",
    "private_key_provider": "The installed Envoy has no such extension: keys are used by the processor.",
    "proxy_admin_port": "Envoy's admin interface is a Unix socket that only the agent's user can open.",
    "proxy_bootstrap_template_path": "Change the bootstrap by an EnvoyFilter with applyTo: BOOTSTRAP.",
    "sds": "Keys and certificates always come by SDS.",
    "stat_name_length": "Envoy's names of statistics have no limit any more.",
}
"""Why fields have no effect, or what to use."""
_HOST_IP = "$(HOST_IP)"
"""What Istio's pods replace by their node's address."""
_REMEDY = "Remove it, or expect nothing of it."
_CERTIFICATES = re.compile(r"-----BEGIN CERTIFICATE-----\s+(.*?)-----END CERTIFICATE-----", re.DOTALL)
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):(?P<port>\d{1,5})\Z", re.ASCII)


def settings_of(config: ProxyConfig) -> ProxySettings:
    """What valid fields say of a proxy's start; None for each that says nothing."""
    limit = config.connection_settings
    naming = config.tracing_service_name
    return ProxySettings(
        drain_seconds=_seconds(config.drain_duration),
        termination_seconds=_seconds(config.termination_drain_duration),
        stats=_inclusion(config.proxy_stats_matcher),
        extra_stat_tags=config.extra_stat_tags or None,
        stats_compression=config.stats_compression,
        runtime=config.runtime_values or None,
        status_port=None if config.status_port == STATUS_PORT else config.status_port,
        connection_limit=limit.global_downstream_connection_limit if limit is not None else None,
        metrics_service=_collector(config.envoy_metrics_service),
        statsd=config.statsd_udp_address or None,
        mesh_id=config.mesh_id or None,
        naming=None if naming == "APP_LABEL_AND_NAMESPACE" else naming,
        # Istio takes its own default for none.
        service_cluster=None if config.service_cluster == "istio-proxy" else config.service_cluster or None,
        readiness=config.readiness_probe,
        ca_certificates=config.ca_certificates_pem or None,
        flush_seconds=_seconds(config.file_flush_interval),
        flush_kilobytes=config.file_flush_min_size_kb,
    )


def start_problems(config: ProxyConfig, base: FieldPath) -> Iterator[Problem]:
    """What is wrong with the fields that a proxy is started with: Envoy would not start with some of it."""
    yield from port_problems(config.status_port, base / "statusPort")
    yield from port_problems(config.proxy_admin_port, base / "proxyAdminPort")
    yield from _durations(config, base)
    matcher = config.proxy_stats_matcher or StatsMatcher()
    for at, one in enumerate(matcher.inclusion_regexps):
        if fault := regex_fault(one):
            path = base.child("proxyStatsMatcher", "inclusionRegexps", at)
            yield Problem(path, fault, remedy="Use the syntax of RE2.")
    for at, one in enumerate(config.extra_stat_tags):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", one, re.ASCII):
            yield Problem(base.child("extraStatTags", at), f"{one!r} is not a tag", remedy="Use letters, digits and _.")
    for at, one in enumerate(config.ca_certificates_pem):
        if not is_certificates(one):
            path = base.child("caCertificatesPem", at)
            yield Problem(path, "not a certificate in PEM", remedy="Give the text from BEGIN to END CERTIFICATE.")
    if config.statsd_udp_address:
        found = _ADDRESS.match(config.statsd_udp_address)
        if found is None or not is_ip(found["host"].strip("[]")) or not _is_port(found["port"]):
            said = f"{config.statsd_udp_address!r} is not IP:PORT"
            yield Problem(base / "statsdUdpAddress", said, remedy="Envoy looks up no name here: use an IP address.")
    if config.tracing is not None:
        yield from _tracing_problems(config.tracing, base / "tracing")
    logs = config.envoy_access_log_service or RemoteService()
    for path, text in (
        (base.child("envoyAccessLogService", "address"), logs.address),
        (base / "zipkinAddress", config.zipkin_address),
    ):
        yield from _address_problems(text, path) if text else ()
    if config.envoy_metrics_service is not None:
        yield from _collector_problems(config.envoy_metrics_service, base / "envoyMetricsService")


def _tracing_problems(said: Tracing, base: FieldPath) -> Iterator[Problem]:
    """Tracers for which Envoy has no code any more, and TLS to the others."""
    if said.sampling == 0 or not 0 <= said.sampling <= 100:
        wrong = f"{said.sampling:g} is not between 0 and 100 percent" if said.sampling else "0 counts as not said"
        remedy = "Give a Telemetry object randomSamplingPercentage: 0, or disableSpanReporting: true, for no traces."
        yield Problem(base / "sampling", f"{wrong}: 1 percent is traced", Severity.WARNING, remedy, "FL0103")
    otlp = "Envoy has no code for it any more: use a provider of kind opentelemetry and a Telemetry object."
    rule = "Say it in a DestinationRule for that host."
    for name, value, remedy in (
        ("lightstep", said.lightstep, otlp),
        ("stackdriver", said.stackdriver, otlp),
        ("openCensusAgent", said.open_census_agent, otlp),
        ("tlsSettings", said.tls_settings, rule),
    ):
        if value is not None:
            yield Problem(base / name, f"{name} has no effect", Severity.WARNING, remedy, "FL0100")
    for name, tracer in (("zipkin", said.zipkin), ("datadog", said.datadog)):
        if tracer is not None:
            path = base.child(name, "address")
            yield from _address_problems(tracer.address.replace(_HOST_IP, "127.0.0.1"), path)
            if _HOST_IP in tracer.address:
                wrong = f"{_HOST_IP} is not filled in here, and no span arrives"
                yield Problem(path, wrong, Severity.WARNING, "Name the host of the agent.", "FL0100")


def without_effect(config: ProxyConfig, base: FieldPath, effective: frozenset[str]) -> Iterator[Problem]:
    """A warning for each field that says something, and is not among those that have an effect here."""
    default = ProxyConfig()
    for name, encoded in zip(config.__struct_fields__, config.__struct_encode_fields__, strict=True):
        value = getattr(config, name)
        if name in effective or value == getattr(default, name):
            continue
        if name == "hold_application_until_proxy_starts" and value:
            continue  # agents never start an application before its proxy has its configuration
        remedy = REASONS.get(name, _REMEDY)
        yield Problem(base / encoded, f"{encoded} has no effect", Severity.WARNING, remedy, "FL0100")


def is_certificates(text: str) -> bool:
    """Whether a text has certificates in PEM, and nothing that cannot be read as one."""
    blocks = _CERTIFICATES.findall(text)
    try:
        return bool(blocks) and all(base64.b64decode("".join(one.split()), validate=True) for one in blocks)
    except binascii.Error:
        return False


def _seconds(text: str) -> float | None:
    return parse_duration(text) if text and is_duration(text) else None


def _inclusion(said: StatsMatcher | None) -> StatsInclusion | None:
    if said is None:
        return None
    return StatsInclusion(said.inclusion_prefixes, said.inclusion_suffixes, said.inclusion_regexps)


def _collector(said: RemoteService | None) -> Collector | None:
    if said is None or not said.address:
        return None
    tls, alive = said.tls_settings or ClientTLSSettings(), said.tcp_keepalive
    kept = None
    if alive is not None:
        kept = (alive.probes, round(_seconds(alive.time) or 0), round(_seconds(alive.interval) or 0))
    return Collector(
        said.address,
        tls.mode,
        tls.client_certificate,
        tls.private_key,
        tls.ca_certificates,
        tls.sni,
        tls.subject_alt_names,
        kept,
    )


def _collector_problems(said: RemoteService, base: FieldPath) -> Iterator[Problem]:
    yield from _address_problems(said.address, base / "address")
    tls, path = said.tls_settings or ClientTLSSettings(), base / "tlsSettings"
    if tls.mode == "MUTUAL" and not (tls.client_certificate and tls.private_key):
        yield Problem(path, "MUTUAL needs clientCertificate and privateKey", remedy="Name both files.")
    files = "Name files on the host of the proxy."
    for name, value, remedy in (
        ("credentialName", tls.credential_name, files),
        ("caCrl", tls.ca_crl, files),
        ("insecureSkipVerify", tls.insecure_skip_verify, "Without caCertificates the service is not verified."),
    ):
        if value:
            yield Problem(path / name, f"{name} has no effect", Severity.WARNING, remedy, "FL0100")


def _address_problems(text: str, path: FieldPath) -> Iterator[Problem]:
    found = _ADDRESS.match(text)
    if found is None or not _is_port(found["port"]):
        yield Problem(path, f"{text!r} is not HOST:PORT", remedy="Name the host and its port.")


def _is_port(text: str) -> bool:
    return 0 < int(text) < 65536


def _durations(config: ProxyConfig, base: FieldPath) -> Iterator[Problem]:
    """Istio's bounds, in seconds."""
    checks = (
        ("drainDuration", config.drain_duration, 1, 86400),
        ("parentShutdownDuration", config.parent_shutdown_duration, 1, 86400),
        ("terminationDrainDuration", config.termination_drain_duration, 0, 86400),
        ("fileFlushInterval", config.file_flush_interval, 0.001, 86400),
    )
    if config.connection_settings is not None:
        yield from duration_problems(base / "connectionSettings", _connection_times(config.connection_settings))
    alive = config.envoy_metrics_service.tcp_keepalive if config.envoy_metrics_service is not None else None
    alive = alive or KeepaliveSettings()
    nested = (("time", alive.time, 1, 86400 * 365), ("interval", alive.interval, 1, 86400 * 365))
    yield from duration_problems(base, checks)
    if (_seconds(config.drain_duration) or 0) % 1:
        said = f"{config.drain_duration} is not a whole number of seconds"
        yield Problem(base / "drainDuration", said, remedy="Envoy counts seconds here: leave the rest out.")
    yield from duration_problems(base.child("envoyMetricsService", "tcpKeepalive"), nested)


def _connection_times(said: ConnectionSettings) -> tuple[tuple[str, str, float, float], ...]:
    """0 is for some of them what Envoy calls never, and for none of them wrong."""
    encoded = zip(said.__struct_fields__, said.__struct_encode_fields__, strict=True)
    times = ((field, getattr(said, name)) for name, field in encoded if name.endswith(("_timeout", "_duration")))
    return tuple((field, text, 0, 86400 * 365) for field, text in times)


def duration_problems(base: FieldPath, checks: tuple[tuple[str, str, float, float], ...]) -> Iterator[Problem]:
    """What is wrong with durations: field path, text, least and most seconds of each."""
    for field, text, least, most in checks:
        path = base.child(*field.split("."))
        if text and not is_duration(text):
            yield Problem(path, f"{text!r} is not a duration", remedy="Use a form such as 10s, 1m30s or 250ms.")
        elif text and not least <= parse_duration(text) <= most:
            yield Problem(path, f"{text} is not between {least:g} s and {most:g} s")
        elif text and round(parse_duration(text) * 1000, 6) % 1:
            yield Problem(path, f"{text} is not a whole number of milliseconds", remedy="Leave the rest out.")
