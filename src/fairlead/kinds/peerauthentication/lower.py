"""PeerAuthentication to peer policies."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.inc import Reader
from fairlead.ir.kind import Emission
from fairlead.ir.security import PEER_POLICIES, MtlsMode, PeerPolicy
from fairlead.ir.view import pairs
from fairlead.kinds.peerauthentication.spec import PeerAuthentication
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.path import ROOT, SPEC
from fairlead.model.ref import NamespacedName


def lower(_: Reader, obj: Object[PeerAuthentication]) -> Iterator[Emission]:
    """One policy. Which of several wins for a workload is decided where they are read."""
    spec = obj.spec
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    ports: list[tuple[int, MtlsMode]] = [(int(port), one.mode) for port, one in (spec.port_level_mtls or {}).items()]
    ports.sort()
    yield (
        PEER_POLICIES,
        key,
        PeerPolicy(
            key=key,
            origin=Origin(obj.ref, SPEC.child("mtls", "mode") if spec.mtls is not None else ROOT),
            selector=pairs(spec.selector.match_labels) if spec.selector is not None else (),
            mode=spec.mtls.mode if spec.mtls is not None else "UNSET",
            ports=tuple(ports),
            created=obj.meta.creation_timestamp or "",
            port_origins=tuple(Origin(obj.ref, SPEC.child("portLevelMtls", str(port), "mode")) for port, _ in ports),
        ),
    )
