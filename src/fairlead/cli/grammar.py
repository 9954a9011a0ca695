"""Where names of the mesh stand on a command line: for completion, which must not import the commands for that.

A test holds this to the commands themselves: which options they have, and which of those take a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fairlead.cli import ALSO

KIND, NAME, OBJECT, POINT, TARGET = "kind", "name", "object", "point", "target"
"""A kind; the name of an object whose kind stands before; KIND/NAME; KIND/NAME@REV or REV; KIND or a proxy."""
PROXY, GATEWAY, CALLER, URL = "proxy", "gateway", "caller", "url"
NAMESPACE, REVISION, FILE, DIRECTORY, EVENT = "namespace", "revision", "file", "dir", "event"
OTHER = ""
"""Anything else that is a value: completed by the command itself, or by nobody."""


class Command(NamedTuple):
    """What the words of a command are: arguments in their order (the last goes on if `more`), and options' values."""

    arguments: tuple[str, ...] = ()
    more: bool = False
    options: dict[str, str] = {}
    flags: frozenset[str] = frozenset()
    """Options that take a value elsewhere, and here do not."""


_VALUES = {
    **dict.fromkeys(("-n", "--namespace"), NAMESPACE),
    **dict.fromkeys(("--at", "--against", "--undo"), REVISION),
    **dict.fromkeys(("-f", "--filename", "--kubeconfig", "--with"), FILE),
    "--state": DIRECTORY,
}
_OTHERS = (
    *("-o", "--output", "-l", "--selector", "--field", "--limit", "--since", "-m", "--message", "--dry-run", "--kind"),
    *("--fail-on", "--suppress", "--suppressions", "--analyzer", "--tail", "--replica", "-X", "--request", "-H"),
    *("--header", "--sni", "--user", "--jwt-claims", "--token", "--token-problem", "--access-log", "--trace"),
    *("--file", "--proxy", "--from", "--to", "--gateway", "--client-certificate", "--loopback"),
)

COMMANDS: dict[tuple[str, ...], Command] = {
    ("get",): Command((KIND, NAME), more=True),
    ("delete",): Command((KIND, NAME), more=True),
    ("describe",): Command((OBJECT,)),
    ("blame",): Command((OBJECT,)),
    ("history",): Command((OBJECT,)),
    ("affects",): Command((OBJECT,)),
    ("rollback",): Command((POINT,), flags=frozenset({"--dry-run"})),
    ("show",): Command((REVISION,)),
    ("explain",): Command((TARGET,), options={"--proxy": FILE}),
    ("proxy-status",): Command((PROXY,)),
    **{
        ("proxy-config", one): Command((PROXY,), options=dict.fromkeys((f"--{name}" for name in names), OTHER))
        for one, names in {
            "all": (),
            "bootstrap": (),
            "clusters": ("fqdn", "port", "subset", "direction"),
            "endpoints": ("address", "port", "status", "cluster"),
            "listeners": ("address", "port"),
            "log": ("level",),
            "routes": ("name", "vhost"),
            "secrets": ("name",),
        }.items()
    },
    ("mtls",): Command((PROXY,)),
    ("changed",): Command(options={"--proxy": PROXY, "--kind": EVENT}, flags=frozenset({"-f"})),
    ("bug-report",): Command(options={"--proxy": PROXY, "--file": FILE}),
    ("why",): Command(options={"--from": CALLER, "--to": URL, "--gateway": GATEWAY, "--access-log": FILE}),
    ("diff",): Command(options={"--from": FILE}),
    ("apply",): Command(options={"--wait": OTHER}),
    ("analyze",): Command((FILE,), more=True, options={"--suppressions": FILE}),
    ("validate",): Command(),
    ("compile",): Command(options={"--proxy": FILE}),
    ("test",): Command((FILE,), more=True),
    ("up",): Command(
        (FILE,),
        more=True,
        options={
            **dict.fromkeys(("--ca-cert", "--ca-key", "--ca-root", "--ca-chain", "--jwks-ca", "--join-issuers"), FILE),
            **dict.fromkeys(("--host", "--name", "--api-port", "--xds-port", "--join-port", "--loopback"), OTHER),
            **dict.fromkeys(("--trust-domain", "--trust-domain-alias", "--service-range", "--jwks-block"), OTHER),
            **dict.fromkeys(("--keep", "--history-size", "--timeline-size"), OTHER),
        },
        flags=frozenset({"--gateway"}),
    ),
}


class Place(NamedTuple):
    """What is to be completed: which sort of name, the arguments before it, and the values of options."""

    sort: str
    before: tuple[str, ...]
    given: dict[str, str]


def options_of(command: Command) -> dict[str, str]:
    """The options of a command that take a value, as far as they are known here, and of which sort it is."""
    known = {**dict.fromkeys(_OTHERS, OTHER), **_VALUES, **command.options}
    return {name: sort for name, sort in known.items() if name not in command.flags}


def place(words: Sequence[str]) -> Place | None:
    """What stands behind these words (without the program's name); None where no name of the mesh does."""
    words = [ALSO.get(words[0], words[0]), *words[1:]] if words else words
    path = next((path for path in (tuple(words[:1]), tuple(words[:2])) if path in COMMANDS), None)
    if path is None:
        return None
    command = COMMANDS[path]
    options = options_of(command)
    before: list[str] = []
    given: dict[str, str] = {}
    left = iter(words[len(path) :])
    for word in left:
        name, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            before.append(word)
        elif equals:
            given[name] = value
        elif name in options:
            taken = next(left, None)
            if taken is None:
                return Place(options[name], tuple(before), given)
            given[name] = taken
    at = len(before)
    if at < len(command.arguments):
        return Place(command.arguments[at], tuple(before), given)
    return Place(command.arguments[-1] if command.more else OTHER, tuple(before), given)
