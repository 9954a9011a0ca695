"""Names of configuration objects."""

from __future__ import annotations

from typing import NamedTuple


class Ref(NamedTuple):
    """The identity of a configuration object: kind, namespace ("" if cluster-scoped) and name.

    Kinds are unique across the groups that Fairlead serves, except where `group` tells them apart
    (Istio's Gateway and the Gateway API's).
    """

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"


class NamespacedName(NamedTuple):
    """A name inside a namespace."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
