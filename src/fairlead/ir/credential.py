"""Certificates and keys that gateways serve, and trust bundles. Delivered over SDS only, never logged."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from fairlead.inc import Table
from fairlead.ir.address import Address
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName


class Credential(msgspec.Struct, frozen=True):
    """What a Secret holds that TLS can use; empty where it does not. `ocsp_staple` is a response of OCSP (DER)."""

    key: NamespacedName
    origin: Origin
    certificate_chain: bytes = b""
    private_key: bytes = b""
    ca_certificates: bytes = b""
    ca_crl: bytes = b""
    ocsp_staple: bytes = b""

    def __repr__(self) -> str:
        return f"Credential({self.key})"


CREDENTIALS: Table[NamespacedName, Credential] = Table("credentials", stage=1)

_CA_SUFFIX = "-cacert"


CA_MAPS: Table[NamespacedName, Credential] = Table("ca-maps", stage=1)
"""Trust bundles that ConfigMaps hold."""


class CredentialName(NamedTuple):
    """What a `credentialName` means. `namespace` is "" for that of the proxy.

    `own` is the workload's own certificate, or the mesh's roots; "" stands for what nobody knows. `served`: a server
    that MeshConfig names has it, and a Secret where MeshConfig names none (Istio since 1.31).
    """

    source: Literal["secret", "configmap", "own", ""]
    namespace: str = ""
    name: str = ""
    served: bool = False


class SecretServer(msgspec.Struct, frozen=True):
    """A server of secrets (MeshConfig's extension provider `sds`), and the credential for which it is ("": any)."""

    provider: str
    address: Address
    credential: str = ""


def read_name(text: str) -> CredentialName:
    """Istio's forms: NAME, `kubernetes://[NAMESPACE/]NAME`, `kubernetes-gateway://NAMESPACE/NAME` (Secrets),
    `configmap://NAMESPACE/NAME` (trust bundles), `sds://NAME` (servers of secrets), `builtin://`.
    """
    scheme, found, rest = text.partition("://")
    if not found:
        return CredentialName("secret", "", text)
    namespace, _, name = rest.rpartition("/")
    match scheme:
        case "builtin":
            return CredentialName("own")
        case "sds" if rest and not namespace:
            return CredentialName("secret", "", name, served=True)
        case "kubernetes" if name and "/" not in namespace:
            return CredentialName("secret", namespace, name)
        case "kubernetes-gateway" if name and namespace and "/" not in namespace:
            return CredentialName("secret", namespace, name)
        case "configmap" if name and namespace and "/" not in namespace:
            return CredentialName("configmap", namespace, name)
        case _:
            return CredentialName("")


def is_public(text: str) -> bool:
    """Whether a credential is no secret: authorities that a ConfigMap holds."""
    return read_name(text).source == "configmap"


def resource_name(text: str) -> str:
    """The name under which a credential is fetched from the control plane."""
    name = text.removeprefix("sds://")
    return name if "://" in name else f"kubernetes://{name}"


def credential_of(key: NamespacedName, origin: Origin, data: Mapping[str, str]) -> Credential:
    """What a Secret's data (values in base64) holds, by the names that Istio's gateways know.

    `cert`, `key`, `cacert`, `crl`, or `tls.crt`, `tls.key`, `tls.ocsp-staple`, `ca.crt`, `ca.crl`, whatever the type
    is. Of each thing the first name counts that has a value (certificate and key together), as in Istio's
    `pilot/pkg/credentials`. A secret named `NAME-cacert` holds only the CA for `NAME`: its certificate and key are left
    out. What is absent, or not base64, stays empty.
    """

    def value(name: str) -> bytes:
        try:
            return base64.b64decode("".join(data.get(name, "").split()), validate=True)
        except (binascii.Error, ValueError):
            return b""

    ca = value("cacert") or value("ca.crt")
    crl = value("crl") or value("ca.crl")
    if key.name.endswith(_CA_SUFFIX):
        return Credential(key, origin, ca_certificates=ca or value("cert") or value("tls.crt"), ca_crl=crl)
    chain, private = value("cert"), value("key")
    if chain and private:
        return Credential(key, origin, chain, private, ca, crl)
    return Credential(key, origin, value("tls.crt"), value("tls.key"), ca, crl, value("tls.ocsp-staple"))
