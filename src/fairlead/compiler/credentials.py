"""What a proxy may fetch that its servers, or the TLS of its calls, name: Secrets of its own namespace, and ConfigMaps.

Authorities in ConfigMaps are no secret: every proxy may have them, of any namespace (Istio).
"""

from __future__ import annotations

from typing import NamedTuple

from fairlead.compiler.gateways import GatewaysKey, gateways_of
from fairlead.compiler.hosts import settings
from fairlead.envoy.names import CA_SUFFIX
from fairlead.envoy.resource import Resource
from fairlead.envoy.secret import certificate_secret, validation_secret
from fairlead.inc import Reader, rule
from fairlead.ir.credential import CA_MAPS, CREDENTIALS, Credential, is_public, read_name, resource_name
from fairlead.ir.gateway import GATEWAYS, ServerTls
from fairlead.ir.traffic import TRAFFIC_POLICIES_WITH_CREDENTIALS, credentials_in
from fairlead.ir.view import View, selects
from fairlead.model.ref import NamespacedName


class SecretKey(NamedTuple):
    """A credential by the name that servers give it, for a proxy of this namespace."""

    namespace: str
    name: str


def may_name_secrets(r: Reader, view: View) -> bool:
    """Whether a proxy may be given credentials at all: a sidecar only where some policy names any. Makes no node."""
    return view.type == "router" or bool(r.find(TRAFFIC_POLICIES_WITH_CREDENTIALS, ""))


@rule
def secret_keys(r: Reader, view: View) -> tuple[SecretKey, ...]:
    """The credentials that this gateway's servers and the TLS of its calls name; for sidecars those of policies that
    select them (Istio), and authorities in ConfigMaps. Their identity the agent holds.
    """
    found: set[str] = set()
    for _key, policy in r.rows(TRAFFIC_POLICIES_WITH_CREDENTIALS, ""):
        chosen = policy.selector and policy.key.namespace == view.namespace and selects(policy.selector, view.labels)
        for name in credentials_in(policy):
            if view.type == "router" or chosen or is_public(name):
                found.update((name, name + CA_SUFFIX))
    for at in gateways_of(r, GatewaysKey.of(r, view)) if view.type == "router" else ():
        gateway = r.get(GATEWAYS, at)
        for server in gateway.servers if gateway is not None else ():
            if server.tls is not None:
                found.update(_named(server.tls))
    if settings(r).secret_servers:
        found = {name for name in found if not read_name(name).served}
    return tuple(SecretKey(view.namespace, name) for name in sorted(found))


@rule
def secret(r: Reader, key: SecretKey) -> Resource | None:
    """The SDS resource of a credential, or None while there is no such usable Secret or ConfigMap.

    Secrets of other namespaces are not given to a proxy: there nobody has agreed to that.
    """
    name, said = resource_name(key.name), read_name(key.name)
    if said.source == "configmap":
        plain = said.name.removesuffix(CA_SUFFIX)
        return _validation(name, r.get(CA_MAPS, NamespacedName(said.namespace, plain)))
    if said.namespace not in ("", key.namespace):
        return None
    exact = r.get(CREDENTIALS, NamespacedName(key.namespace, said.name)) if said.source == "secret" else None
    if said.name.endswith(CA_SUFFIX):
        base = r.get(CREDENTIALS, NamespacedName(key.namespace, said.name.removesuffix(CA_SUFFIX)))
        return _validation(name, exact) or _validation(name, base)
    if exact is None or not exact.certificate_chain or not exact.private_key:
        return None
    return certificate_secret(name, exact.certificate_chain, exact.private_key, exact.ocsp_staple)


def _validation(name: str, credential: Credential | None) -> Resource | None:
    if credential is None or not credential.ca_certificates:
        return None
    return validation_secret(name, credential.ca_certificates, credential.ca_crl)


def _named(tls: ServerTls) -> list[str]:
    found = [one for one in tls.credential_names if read_name(one).source != "own"]
    if tls.mode in ("MUTUAL", "OPTIONAL_MUTUAL"):
        found.extend([name + CA_SUFFIX for name in found])
        if tls.ca_credential_name:
            found.append(tls.ca_credential_name + CA_SUFFIX)
    return found
