"""What a change does to a proxy, piece by piece."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fairlead.model.diagnostic import Origin

Class = Literal[
    "endpoint", "cluster", "route", "filter chain", "listener", "listener drain", "secret", "extension", "name"
]
"""What Envoy does about it. `filter chain`: connections of these chains drain. `listener drain`: all of a listener's.
`listener`: one comes, or goes and drains. All others are taken over without closing a connection."""

SHADOWED = "FL3801"
HOST_LOST = "FL3802"
MTLS_WEAKENED = "FL3803"
AUTHORIZATION_WIDENED = "FL3804"
ENDPOINTS_LOST = "FL3805"
NO_CLUSTER = "FL3806"
DRAINS = "FL3807"
HELD = "FL3808"
CALLERS_DENIED = "FL3809"
PLAINTEXT_REFUSED = "FL3815"
CERTIFICATE_LOST = "FL3816"
DANGERS = {
    SHADOWED: "a route loses requests to one before it",
    HOST_LOST: "a host is not known any more",
    MTLS_WEAKENED: "mutual TLS is weakened",
    AUTHORIZATION_WIDENED: "more is allowed than before",
    ENDPOINTS_LOST: "many endpoints go at once, or the last one",
    NO_CLUSTER: "a route leads to a cluster that is not there",
    DRAINS: "all connections of a listener drain",
    CALLERS_DENIED: "callers are denied that were not",
    PLAINTEXT_REFUSED: "callers in plaintext are refused",
    CERTIFICATE_LOST: "a server of a gateway has no certificate",
    HELD: "the push would be held, because it takes too much away at once",
}
"""What is marked as dangerous, by code."""


class Field(msgspec.Struct, frozen=True):
    """A setting that differs: its proto JSON path in the resource, and both values (None: not there)."""

    path: str
    before: Any = None
    after: Any = None


class Change(msgspec.Struct, frozen=True):
    """One thing that becomes different.

    `said` is a sentence. `danger` is the code of a danger or empty. `resources` are the names of the Envoy resources in
    which it happens. `fields` are the settings that differ, `untold` those of them of which the sentence says nothing.
    `drains` is the listener of which connections drain (of a `filter chain`: some of them), or empty.
    `behind` are the edits without which there would not be this danger, as far as that is known.
    `strict` is the port that takes no plaintext any more (0: all that have no chains of their own).
    """

    kind: Class
    said: str
    danger: str = ""
    resources: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    untold: tuple[str, ...] = ()
    drains: str = ""
    strict: int | None = None
    behind: tuple[Origin, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two changes the same for people."""
        return (self.kind, self.said, self.danger, self.untold)


def joined(found: list[Change]) -> tuple[Change, ...]:
    """The same said of several resources is said once; dangers first, then by class."""
    out: dict[tuple[object, ...], Change] = {}
    for one in found:
        before = out.get(one.key)
        if before is not None:
            names = tuple(dict.fromkeys((*before.resources, *one.resources)))
            one = msgspec.structs.replace(before, resources=names)
        out[one.key] = one
    return tuple(sorted(out.values(), key=lambda one: (not one.danger, one.kind, one.said)))
