"""Gives virtual addresses to objects that need one, at admission."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

from fairlead.apiserver.admission import Unallocatable
from fairlead.compiler.registry import Registry
from fairlead.model.ref import Ref
from fairlead.store.change import Change
from fairlead.store.store import Store


class Allocation:
    """Which addresses are taken, kept up to date by the store; the kinds say how an address is chosen."""

    def __init__(self, store: Store, kinds: Registry, network: str) -> None:
        self._kinds = kinds
        self._network = network
        self._holders: Counter[str] = Counter()
        self._held: dict[Ref, tuple[str, ...]] = {}
        for kind in kinds.kinds:
            for document in store.list(kind.group, kind.kind) if kind.addresses is not None else ():
                meta = document["metadata"]
                self._note(kind.ref(str(meta.get("namespace") or ""), str(meta["name"])), document)
        store.subscribe(self._changed)

    def allocate(self, document: dict[str, Any], store: Store) -> dict[str, Any]:
        """The document with its address. Raises Unallocatable where what it asks for cannot be had."""
        kind, _ = self._kinds.identify(document)
        if kind is None or kind.allocate is None:
            return document
        meta = cast("dict[str, Any]", document.get("metadata") or {})
        ref = kind.ref(str(meta.get("namespace") or "default"), str(meta.get("name") or ""))
        own = Counter(self._held.get(ref, ()))
        others = {one for one, times in self._holders.items() if times > own[one]}
        made, problems = kind.allocate(document, others, self._network)
        if problems:
            raise Unallocatable(*problems)
        return made

    def _changed(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._note(change.ref, change.new)

    def _note(self, ref: Ref, document: dict[str, Any] | None) -> None:
        for address in self._held.pop(ref, ()):
            self._holders[address] -= 1
            if not self._holders[address]:
                del self._holders[address]
        kind = self._kinds.kind(ref.group, ref.kind)
        if document is None or kind is None or kind.addresses is None:
            return
        found = kind.addresses(document)
        if found:
            self._held[ref] = found
            self._holders.update(found)
