"""Servers of gateways that lose the certificate with which they end TLS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fairlead.compiler.publish import Changes
from fairlead.effect.change import CERTIFICATE_LOST, Change
from fairlead.envoy.names import CREDENTIAL_PREFIX, CREDENTIALS
from fairlead.envoy.protojson import decode, unpacked
from fairlead.envoy.resource import LISTENER, SECRET, Resource


def certificates_lost(changes: Changes, now: Mapping[str, Mapping[str, Resource]]) -> Iterator[Change]:
    """Credentials that listeners name and that are not there: newly so, or because they vanish."""
    secrets = now[SECRET]
    gone = {name for name, was in changes.get(SECRET, {}).items() if was is not None and name not in secrets}
    for name, resource in now[LISTENER].items():
        changed = changes.get(LISTENER, {})
        if not gone and name not in changed:
            continue
        was = changed.get(name)
        before = _named(decode(LISTENER, was.body)) if was is not None else set[str]()
        for secret in sorted(_named(decode(LISTENER, resource.body)) - {*secrets}):
            if secret in gone or (name in changed and secret not in before):
                said = f"the server of listener {name} has no certificate: {secret.removeprefix(CREDENTIAL_PREFIX)}"
                yield Change("secret", f"{said} is not there", CERTIFICATE_LOST, (name,))


def _named(listener: Any) -> set[str]:
    """The credentials that come from the control plane and that a listener ends TLS with."""
    found: set[str] = set()
    for chain in listener.filter_chains:
        context: Any = unpacked(chain.transport_socket.typed_config)
        if context.DESCRIPTOR.name == "DownstreamTlsContext":
            common = context.common_tls_context
            found.update(one.name for one in common.tls_certificate_sds_secret_configs)
            found.add(common.combined_validation_context.validation_context_sds_secret_config.name)
            found.add(common.validation_context_sds_secret_config.name)
    return {one for one in found if one.startswith(CREDENTIALS)}
