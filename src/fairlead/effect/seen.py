"""What is known of who calls the proxies of a view: what makes a refusal a danger."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from fairlead.effect.change import PLAINTEXT_REFUSED, Change
from fairlead.effect.naming import some
from fairlead.ir.view import View


class Caller(msgspec.Struct, frozen=True, order=True):
    """A workload that has called: NAME.NAMESPACE, and its SPIFFE id."""

    name: str
    identity: str


class Known(msgspec.Struct, frozen=True):
    """What a running mesh has seen of the proxies of a view.

    `callers` have called them with mutual TLS. `plaintext` has the addresses that have called without, by the port of
    the application; it is complete if `reporting`, that is, if all agents have reported. `served` are the ports that
    have chains of their own.
    """

    callers: tuple[Caller, ...] = ()
    plaintext: tuple[tuple[int, tuple[str, ...]], ...] = ()
    reporting: bool = False
    served: tuple[int, ...] = ()


Seen = Callable[[View], Known | None]
"""What is known; None where nothing runs that could have seen anybody."""


def refined(found: list[Change], known: Known | None) -> Iterator[Change]:
    """Changes of a view; of ports that take no plaintext any more, whether somebody needs it."""
    for one in found:
        yield one if one.strict is None else _strict(one, one.strict, known)


def _strict(one: Change, port: int, known: Known | None) -> Change:
    if known is None:
        said = "whether anybody calls it in plaintext only a running mesh can say"
        return msgspec.structs.replace(one, said=f"{one.said}; {said}")
    refused = sorted(
        {
            address
            for at, addresses in known.plaintext
            if at == port or (not port and at not in known.served)
            for address in addresses
        }
    )
    if refused:
        said = f"{some(refused)} called it in plaintext within the last week and will be refused"
        return msgspec.structs.replace(one, said=f"{one.said}; {said}", danger=PLAINTEXT_REFUSED)
    if not known.reporting:
        said = "whether anybody calls it in plaintext is not known, its agent has not reported yet"
        return msgspec.structs.replace(one, said=f"{one.said}; {said}")
    return msgspec.structs.replace(one, said=f"{one.said}; nobody was seen to call it in plaintext", danger="")
