"""Secrets that a gateway may fetch: those of its own namespace that its servers name."""

from __future__ import annotations

from typing import NamedTuple

from fairlead.compiler.gateways import GatewaysKey, gateways_of
from fairlead.envoy.names import CA_SUFFIX, CREDENTIAL_PREFIX
from fairlead.envoy.resource import Resource
from fairlead.envoy.secret import certificate_secret, validation_secret
from fairlead.inc import Reader, rule
from fairlead.ir.credential import CREDENTIALS, Credential
from fairlead.ir.gateway import GATEWAYS, ServerTls
from fairlead.ir.view import View
from fairlead.model.ref import NamespacedName


class SecretKey(NamedTuple):
    """A credential by the name that servers give it, in the namespace of the gateway's own workload."""

    namespace: str
    name: str


@rule
def secret_keys(r: Reader, view: View) -> tuple[SecretKey, ...]:
    """The credentials that this gateway's servers name; none for sidecars, whose identity the agent holds."""
    if view.type != "router":
        return ()
    found: set[str] = set()
    for at in gateways_of(r, GatewaysKey.of(r, view)):
        gateway = r.get(GATEWAYS, at)
        for server in gateway.servers if gateway is not None else ():
            if server.tls is not None:
                found.update(_named(server.tls))
    return tuple(SecretKey(view.namespace, name) for name in sorted(found))


@rule
def secret(r: Reader, key: SecretKey) -> Resource | None:
    """The SDS resource `kubernetes://NAME`, or None while there is no such usable Secret."""
    name = CREDENTIAL_PREFIX + key.name
    exact = r.get(CREDENTIALS, NamespacedName(key.namespace, key.name))
    if key.name.endswith(CA_SUFFIX):
        base = r.get(CREDENTIALS, NamespacedName(key.namespace, key.name.removesuffix(CA_SUFFIX)))
        return _validation(name, exact) or _validation(name, base)
    if exact is None or not exact.certificate_chain or not exact.private_key:
        return None
    return certificate_secret(name, exact.certificate_chain, exact.private_key)


def _validation(name: str, credential: Credential | None) -> Resource | None:
    if credential is None or not credential.ca_certificates:
        return None
    return validation_secret(name, credential.ca_certificates, credential.ca_crl)


def _named(tls: ServerTls) -> list[str]:
    found = list(tls.credential_names)
    if tls.mode in ("MUTUAL", "OPTIONAL_MUTUAL"):
        found.extend(name + CA_SUFFIX for name in tls.credential_names)
        if tls.ca_credential_name:
            found.append(tls.ca_credential_name + CA_SUFFIX)
    return found
