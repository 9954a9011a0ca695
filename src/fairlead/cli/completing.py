"""Names of the running mesh for completion in a shell: quick, bounded, and silent whatever goes wrong.

Speaks the protocol between Click and its completion scripts (`click.shell_completion`), without Click: to import that,
the command and the client would take longer than to ask. Options, commands and choices are left to Click.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fairlead.cli.grammar import (
    CALLER,
    DIRECTORY,
    EVENT,
    FILE,
    GATEWAY,
    KIND,
    NAME,
    NAMESPACE,
    OBJECT,
    OTHER,
    POINT,
    PROXY,
    REVISION,
    TARGET,
    URL,
    Place,
    place,
)

_PATIENCE = 1.0
"""Seconds for all of connecting, asking and reading; nobody waits longer for a completion."""
_MOST_BYTES = 1 << 20
_BREAKS = re.compile(r"[:=@]+")
"""What parts words in bash beside blanks."""

_SIMPLE: dict[str, tuple[tuple[str, dict[str, str]], ...]] = {
    PROXY: (("proxies", {}),),
    GATEWAY: (("proxies", {"type": "router"}),),
    CALLER: (("proxies", {"type": "sidecar"}),),
    TARGET: (("proxies", {}), ("kinds", {})),
    REVISION: (("revisions", {}),),
    NAMESPACE: (("namespaces", {}),),
    EVENT: (("events", {}),),
    URL: (("urls", {}),),
}
"""What is asked for where nothing else on the line matters."""
_FIXED = {CALLER: ("internet", "plaintext:")}


class Item(NamedTuple):
    """What the shell is told: `plain` with a value, or `file` or `dir` to complete those by itself."""

    type: str
    value: str
    help: str = ""


def completed(environment: Mapping[str, str]) -> bool:
    """Print completions if a name of the mesh is wanted; False where Click is to answer."""
    shell, _, instruction = environment.get("_FAIRLEAD_COMPLETE", "").partition("_")
    if instruction != "complete" or shell not in ("bash", "zsh", "fish"):
        return False
    words, current = _words(environment, shell)
    if current.startswith("-"):
        return False
    where = place(words)
    if where is None or where.sort == OTHER:
        return False
    try:
        found = list(_items(where, current, shell))
    except Exception:
        # Whatever it was: a shell in the middle of a line is no place to say it.
        if environment.get("FAIRLEAD_DEBUG"):
            raise
        found = []
    sys.stdout.write("".join(f"{_line(one, shell)}\n" for one in found))
    return True


def _words(environment: Mapping[str, str], shell: str) -> tuple[list[str], str]:
    """The words before the one that is to be completed, and that one, without the program's name."""
    words = _split(environment.get("COMP_WORDS", ""))
    if shell == "fish":
        # The word that is being written stands in both.
        current = (_split(environment.get("COMP_CWORD", "")) or [""])[0]
        if current and words and words[-1] == current:
            words.pop()
        return words[1:], current
    at = environment.get("COMP_CWORD", "")
    number = int(at) if at.isdecimal() else len(words)
    before, current = words[1:number], words[number] if number < len(words) else ""
    return _joined(before, current) if shell == "bash" else (before, current)


def _joined(before: Sequence[str], current: str) -> tuple[list[str], str]:
    """Words as they were written: bash parts them at colons, equals signs and the like."""
    out: list[str] = []
    glue = False
    for word in (*before, current):
        apart = _BREAKS.fullmatch(word) is not None
        if out and (apart or glue):
            out[-1] += word
        else:
            out.append(word)
        glue = apart
    return out[:-1], out[-1]


def _split(text: str) -> list[str]:
    import shlex

    reading = shlex.shlex(text, posix=True)
    reading.whitespace_split = True
    reading.commenters = ""
    out: list[str] = []
    try:
        out.extend(reading)
    except ValueError:
        # A quotation that is not closed yet.
        out.append(reading.token)
    return out


def _line(one: Item, shell: str) -> str:
    if shell == "zsh":
        value = one.value.replace(":", r"\:") if one.help else one.value
        return f"{one.type}\n{value}\n{one.help or '_'}"
    return f"{one.type},{one.value}" + (f"\t{one.help}" if shell == "fish" and one.help else "")


def _items(where: Place, current: str, shell: str) -> Iterable[Item]:
    if where.sort in (FILE, DIRECTORY):
        return [Item("dir" if where.sort == DIRECTORY else "file", current)]
    found = _names(where, current)
    if shell == "bash":
        # It replaces what stands behind the last sign at which it parts words.
        cut = max((match.end() for match in _BREAKS.finditer(current)), default=0)
        return [one._replace(value=one.value[cut:]) for one in found]
    return found


def _names(where: Place, current: str) -> list[Item]:
    from fairlead.cli.asking import AskError, Asking

    try:
        ask = Asking(where.given, _PATIENCE, _MOST_BYTES)
    except AskError:
        return []

    def names(of: str, prefix: str, before: str = "", **more: str) -> list[Item]:
        try:
            answer = ask(of=of, prefix=prefix, **more)
        except AskError:
            return []
        return [Item("plain", before + value, said) for value, said in answer]

    namespace = where.given.get("-n") or where.given.get("--namespace") or ask.namespace
    if where.sort in _SIMPLE:
        return [one for of, more in _SIMPLE[where.sort] for one in names(of, current, **more)] + [
            Item("plain", one) for one in _FIXED.get(where.sort, ()) if one.startswith(current)
        ]
    kind, slash, name = current.partition("/")
    if where.sort == NAME and "/" not in where.before[0]:
        found = names("objects", current, kind=where.before[0], namespace=namespace)
        return [one for one in found if one.value not in where.before]
    if where.sort == POINT and "@" in name:
        at, _, revision = name.partition("@")
        return names("revisions", revision, f"{kind}/{at}@", kind=kind, name=at, namespace=namespace)
    if where.sort == POINT and current.isdecimal():
        return names("revisions", current)
    if slash and kind == "workload":
        return names("proxies", name, f"{kind}/", namespace=namespace, short="true")
    if slash:
        return names("objects", name, f"{kind}/", kind=kind, namespace=namespace)
    kinds = names("kinds", current)
    if where.sort == KIND:
        return kinds
    # A name follows: the slash is written already.
    kinds = [one._replace(value=f"{one.value}/") for one in kinds]
    workload = where.sort == OBJECT and "workload".startswith(current)
    return [*kinds, Item("plain", "workload/")] if workload else kinds
