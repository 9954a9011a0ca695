"""Differences between two versions of a large resource, and their application.

Made once for all proxies that have the same version and are given the same one. A route configuration has a virtual
host for each service: when one of them changes, this is what is sent instead of everything.

Must not: know what the bytes mean. A difference is a list of "keep these bytes, then put those".
"""

from __future__ import annotations

from fairlead.envoy.resource import Piece, Resource
from fairlead.xds.patch_pb2 import Patch

PATCH = "type.googleapis.com/" + Patch.DESCRIPTOR.full_name
METADATA = "FAIRLEAD_PATCHES"
"""The field of a node's metadata with which an agent says that it takes differences."""


_BLOCK = 24
"""Bytes that must be the same, one after the other, to be looked for elsewhere."""
_SEARCHED = 1 << 16
"""In more new bytes than this nothing is looked for."""


class NotApplicable(Exception):
    """The difference is against a version that is not there, or damaged."""


Step = tuple[int, int, bytes]
"""Where to begin to copy, how many bytes, and what follows them."""


def between(old: Resource, new: Resource) -> bytes:
    """A serialised Patch that turns the body of `old` into that of `new`."""
    patch = Patch(base=old.version, type_url=new.type_url, size=new.size)
    for start, length, then in _merged(_steps(_pieces(old), _pieces(new))):
        patch.steps.add(start=start, length=length, then=then)
    return patch.SerializeToString()


def _pieces(resource: Resource) -> tuple[Piece, ...]:
    return resource.pieces or (Piece(resource.body, b""),)


def _steps(old: tuple[Piece, ...], new: tuple[Piece, ...]) -> list[Step]:
    """Pieces that are there again are copied whole; the others are compared with what stood in their place."""
    at: dict[bytes, tuple[int, int]] = {}
    starts: list[int] = []
    position = 0
    for piece in old:
        starts.append(position)
        if piece.digest:
            at[piece.digest] = (position, len(piece.body))
        position += len(piece.body)
    steps: list[Step] = []
    follows = 0
    for piece in new:
        known = at.get(piece.digest)
        if known is not None:
            steps.append((*known, b""))
            follows = starts.index(known[0]) + 1
        elif follows < len(old):
            steps += _inside(old[follows].body, piece.body, starts[follows])
            follows += 1
        else:
            steps.append((0, 0, piece.body))
    return steps


def _inside(old: bytes, new: bytes, start: int) -> list[Step]:
    """What both have at the beginning and at the end is kept, and what is found again of the rest."""
    head = _same(old, new, from_end=False, most=min(len(old), len(new)))
    tail = _same(old, new, from_end=True, most=min(len(old), len(new)) - head)
    middle = _found_again(old[head : len(old) - tail], new[head : len(new) - tail], start + head)
    return [(start, head, b""), *middle, (start + len(old) - tail, tail, b"")]


def _found_again(old: bytes, new: bytes, start: int) -> list[Step]:
    """Bytes that stand elsewhere now, such as an endpoint with another place in the order of addresses.

    Blocks of the old bytes are looked up at each place of the new ones that is not covered yet, and grow to the right.
    """
    if min(len(old), len(new)) < 2 * _BLOCK or len(new) > _SEARCHED:
        return [(0, 0, new)]
    blocks = {old[at : at + _BLOCK]: at for at in range(len(old) - _BLOCK, -1, -_BLOCK)}
    steps: list[Step] = []
    put = at = 0
    while at <= len(new) - _BLOCK:
        here = blocks.get(new[at : at + _BLOCK])
        if here is None:
            at += 1
            continue
        rest_old, rest_new = old[here:], new[at:]
        length = _same(rest_old, rest_new, from_end=False, most=min(len(rest_old), len(rest_new)))
        steps += ((0, 0, new[put:at]), (start + here, length, b""))
        put = at = at + length
    return [*steps, (0, 0, new[put:])]


def _same(old: bytes, new: bytes, *, from_end: bool, most: int) -> int:
    """How many bytes both have in common at one end, at most `most`: found by halving."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        same = old[len(old) - middle :] == new[len(new) - middle :] if from_end else old[:middle] == new[:middle]
        low, high = (middle, high) if same else (low, middle - 1)
    return low


def _merged(steps: list[Step]) -> list[Step]:
    """Neighbouring steps that copy neighbouring bytes, or only add, made one."""
    found: list[Step] = []
    for start, length, then in steps:
        if not length and not then:
            continue
        if found:
            before, so_far, put = found[-1]
            if not length:
                found[-1] = (before, so_far, put + then)
                continue
            if not put and before + so_far == start:
                found[-1] = (before, so_far + length, then)
                continue
        found.append((start, length, then))
    return found


def apply(patch: Patch, version: str, body: bytes) -> bytes:
    """The new body, given the one that is there and its version. Raises NotApplicable."""
    if patch.base != version:
        raise NotApplicable(
            f"the difference is against version {patch.base or 'none'}, but {version or 'none'} is here"
        )
    parts: list[bytes] = []
    for step in patch.steps:
        if step.start + step.length > len(body):
            raise NotApplicable("the difference copies bytes that are not there")
        parts += (body[step.start : step.start + step.length], step.then)
    whole = b"".join(parts)
    if len(whole) != patch.size:
        raise NotApplicable(f"the difference gives {len(whole)} bytes instead of {patch.size}")
    return whole
