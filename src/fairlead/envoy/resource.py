"""What is delivered to proxies: named xDS resources as serialised bytes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

import msgspec

from fairlead.envoy.pack import framed

_PREFIX = "type.googleapis.com/"
LISTENER = _PREFIX + "envoy.config.listener.v3.Listener"
ROUTE = _PREFIX + "envoy.config.route.v3.RouteConfiguration"
CLUSTER = _PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT = _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
SECRET = _PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
EXTENSION = _PREFIX + "envoy.config.core.v3.TypedExtensionConfig"
NAME_TABLE = _PREFIX + "istio.networking.nds.v1.NameTable"

MAKE_BEFORE_BREAK = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET)


class Piece(msgspec.Struct, frozen=True):
    """Serialised fields of a message that many messages have in common, and a hash of them."""

    body: bytes
    digest: bytes

    @staticmethod
    def of(body: bytes) -> Piece:
        """A piece with its hash computed."""
        return Piece(body, blake2b(body, digest_size=16).digest())

    @staticmethod
    @lru_cache(1024)
    def shared(body: bytes) -> Piece:
        """A piece that is found in many resources: one object for all of them."""
        return Piece.of(body)


class Resource:
    """One named xDS resource: the serialised message (without the Any around it) and a hash that names it.

    Equal bytes make equal versions, whoever built them and whenever: a proxy that reconnects to another control
    plane is sent nothing that it already has. A large resource is kept in pieces that it shares with others; its bytes
    are joined when they are asked for. Immutable.
    """

    __slots__ = ("_claim", "_whole", "fields", "framing", "members", "name", "pieces", "size", "type_url", "version")

    def __init__(
        self, type_url: str, name: str, version: str, body: bytes = b"", pieces: tuple[Piece, ...] = ()
    ) -> None:
        self.type_url = type_url
        self.name = name
        self.version = version
        self.pieces = pieces
        self.fields = False
        """Whether each piece is whole fields of the message, so that it can be read by itself."""
        self.size = sum([len(piece.body) for piece in pieces]) if pieces else len(body)
        """Bytes of the serialised message."""
        self.framing: tuple[bytes, bytes] | None = None
        """What a sender puts around the bytes, kept here for the next one who needs it."""
        self.members: int | None = None
        """How many endpoints stand in it, kept here by who has counted them."""
        self._whole = body
        self._claim: bytes | None = None

    @staticmethod
    def of(type_url: str, name: str, body: bytes) -> Resource:
        """A resource with its version computed."""
        return Resource(type_url, name, blake2b(body, digest_size=8).hexdigest(), body)

    @staticmethod
    def joined(type_url: str, name: str, pieces: tuple[Piece, ...]) -> Resource:
        """A resource whose bytes are those of the pieces, one after the other; its version comes from theirs.

        So the same bytes must always be cut in the same places. Pieces without bytes do not count. Each must be whole
        fields of the message.
        """
        pieces = tuple(piece for piece in pieces if piece.body)
        digest = blake2b(digest_size=8)
        for piece in pieces:
            digest.update(piece.digest)
        made = Resource(type_url, name, digest.hexdigest(), b"", pieces)
        made.fields = True
        return made

    @staticmethod
    def cut(type_url: str, name: str, pieces: tuple[Piece, ...]) -> Resource:
        """A resource of these pieces whose version is that of its bytes, wherever they are cut."""
        digest = blake2b(digest_size=8)
        for piece in pieces:
            digest.update(piece.body)
        return Resource(type_url, name, digest.hexdigest(), b"", pieces)

    @property
    def body(self) -> bytes:
        """The serialised message. Empty where only the version is known."""
        return b"".join([piece.body for piece in self.pieces]) if self.pieces else self._whole

    @property
    def claim(self) -> bytes:
        """What a client says that has this: name and version as an entry of `initial_resource_versions`."""
        return framed(1, self.name.encode()) + framed(2, self.version.encode())

    def kept_claim(self) -> bytes:
        """`claim`, made once."""
        if self._claim is None:
            self._claim = self.claim
        return self._claim

    def __eq__(self, other: object) -> bool:
        """The same name and version; one of which only the version is known differs from one with bytes."""
        if self is other:
            return True
        if not isinstance(other, Resource):
            return NotImplemented
        return (
            self.version == other.version
            and self.name == other.name
            and self.type_url == other.type_url
            and bool(self.size) == bool(other.size)
        )

    def __hash__(self) -> int:
        return hash((self.type_url, self.name, self.version))

    def __repr__(self) -> str:
        return f"Resource({self.type_url.rpartition('.')[2]} {self.name} {self.version}, {self.size} B)"


_FEW = 16


class Said(set[bytes]):
    """What a client says that has all of some resources; `changes` tells one state of it from the next."""

    __slots__ = ("changes",)

    def __init__(self, claims: Iterable[bytes]) -> None:
        super().__init__(claims)
        self.changes = 0


class Rows(dict[str, Resource]):
    """Resources of one type by name, which change by `put` and `drop` alone.

    Knows what clients say that have all of them, so that many clients can be compared with it (`xds.returning`).
    """

    __slots__ = ("_claims",)

    def __init__(self) -> None:
        super().__init__()
        self._claims: Said | None = None

    def put(self, resource: Resource) -> None:
        """Take a resource in, in place of one of the same name."""
        if self._claims is not None:
            self._leave(resource.name)
            self._claims.add(resource.kept_claim())
            self._claims.changes += 1
        self[resource.name] = resource

    def drop(self, name: str) -> Resource | None:
        """Let a resource go; what was there."""
        if self._claims is not None:
            self._leave(name)
        return self.pop(name, None)

    def _leave(self, name: str) -> None:
        old = self.get(name)
        if old is not None and self._claims is not None:
            self._claims.discard(old.claim)
            self._claims.changes += 1

    def claims(self) -> tuple[set[bytes], ...]:
        """The claims of all of them, in one set or several; not to be changed."""
        if self._claims is None:
            if len(self) <= _FEW:
                return ({one.claim for one in self.values()},)
            self._claims = Said([one.kept_claim() for one in self.values()])
        return (self._claims,)


def apart(old: Resource | None, new: Resource | None) -> tuple[bytes | None, bytes | None]:
    """The serialised fields in which two versions of a resource differ (None: there is none).

    Pieces that both have, in the same order, are left out: what remains is as different as the whole, and mostly small.
    """
    if old is None or new is None or not (old.fields and new.fields):
        return (None if old is None else old.body), (None if new is None else new.body)
    had, has = {one.digest for one in old.pieces}, {one.digest for one in new.pieces}
    if [one.digest for one in old.pieces if one.digest in has] == [
        one.digest for one in new.pieces if one.digest in had
    ]:
        before = b"".join([one.body for one in old.pieces if one.digest not in has])
        after = b"".join([one.body for one in new.pieces if one.digest not in had])
        if before or after:
            return before, after
    return old.body, new.body
