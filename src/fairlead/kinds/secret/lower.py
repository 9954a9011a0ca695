"""Secret to facts: what TLS can use, and what registries ask for."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from fairlead.inc import Reader
from fairlead.ir.credential import CREDENTIALS, credential_of
from fairlead.ir.extension import PULL_SECRETS, PullSecret
from fairlead.ir.kind import Emission
from fairlead.kinds.secret.spec import SecretSpec
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.ref import NamespacedName


def lower(_: Reader, obj: Object[SecretSpec]) -> Iterator[Emission]:
    """A credential, if there is a certificate, a key or a CA in it; the credentials of registries."""
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    found = credential_of(key, Origin(obj.ref), obj.spec.data)
    if found.certificate_chain or found.ca_certificates:
        yield CREDENTIALS, key, found
    if obj.spec.type == "kubernetes.io/dockerconfigjson":
        config = _text(obj.spec.data.get(".dockerconfigjson", ""))
        if config:
            yield PULL_SECRETS, key, PullSecret(config)


def _text(encoded: str) -> str:
    """What stands in base64; "" where that is no text."""
    try:
        return base64.b64decode("".join(encoded.split()), validate=True).decode()
    except ValueError:
        return ""
