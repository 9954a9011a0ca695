"""Secret to facts: what TLS can use."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.inc import Reader
from fairlead.ir.credential import CREDENTIALS, credential_of
from fairlead.ir.kind import Emission
from fairlead.kinds.secret.spec import SecretSpec
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.ref import NamespacedName


def lower(_: Reader, obj: Object[SecretSpec]) -> Iterator[Emission]:
    """A credential, if there is a certificate, a key or a CA in it."""
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    found = credential_of(key, Origin(obj.ref), obj.spec.type, obj.spec.data)
    if found.certificate_chain or found.ca_certificates:
        yield CREDENTIALS, key, found
