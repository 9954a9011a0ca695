"""Who a workload is: its SPIFFE identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from fairlead.model.names import is_dns_label, is_dns_subdomain

_SCHEME = "spiffe://"
_MAX = 2048


class Identity(msgspec.Struct, frozen=True, order=True):
    """A service account of a namespace in a trust domain: `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`."""

    trust_domain: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @staticmethod
    def parse(uri: str) -> Identity:
        """Read a SPIFFE id of the mesh. Raises ValueError that says which part is wrong."""
        if len(uri) > _MAX or not uri.startswith(_SCHEME):
            raise ValueError(f"{uri[:100]!r} is not a SPIFFE id: it must begin with {_SCHEME}")
        parts = uri.removeprefix(_SCHEME).split("/")
        if len(parts) != 5 or parts[1] != "ns" or parts[3] != "sa":
            raise ValueError(f"{uri!r} is not a workload's SPIFFE id: {_SCHEME}TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT")
        return Identity(parts[0], parts[2], parts[4]).checked()

    def checked(self) -> Identity:
        """Itself, if each part has the syntax that Kubernetes and SPIFFE ask for. Raises ValueError otherwise."""
        if not is_dns_subdomain(self.trust_domain):
            raise ValueError(f"trust domain {self.trust_domain!r} is not a DNS name in lower case")
        if not is_dns_label(self.namespace):
            raise ValueError(f"namespace {self.namespace!r} is not a DNS label in lower case")
        if not is_dns_subdomain(self.service_account):
            raise ValueError(f"service account {self.service_account!r} is not a DNS name in lower case")
        return self

    @staticmethod
    def of_peer(auth: Mapping[str, Iterable[bytes]]) -> Identity:
        """The identity in a gRPC peer's verified certificate, from the call's auth context.

        An X.509-SVID has exactly one URI name (SPIFFE X509-SVID, section 2). Raises ValueError otherwise.
        """
        if b"ssl" not in auth.get("transport_security_type", ()):
            raise ValueError("the connection does not use TLS")
        names = {item.decode("utf-8", "replace") for item in auth.get("x509_subject_alternative_name", ())}
        uris = [name for name in names if "://" in name]
        if len(uris) != 1:
            raise ValueError(f"the client certificate has {len(uris)} URI names, one SPIFFE id is needed")
        return Identity.parse(uris[0])
