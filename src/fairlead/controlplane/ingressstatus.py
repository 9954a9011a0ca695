"""Writes where an Ingress is reached into its status, as Istio's controller does.

That is where the Service of the gateways is reached (`ingressService` in namespace istio-system): its load balancer's
addresses and its external ones, or the name that it stands for. Without such a Service it is where the connected
gateways are that serve Ingresses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from fairlead.compiler.ingresses import addresses_outside, served, serving_labels
from fairlead.controlplane.feed import Feed
from fairlead.ir.view import View, selects
from fairlead.model.ref import NamespacedName, Ref
from fairlead.model.syntax import is_ip
from fairlead.store.errors import StoreError
from fairlead.store.store import Store

_log = logging.getLogger(__name__)
_PAUSE = 0.5
"""Seconds between news and the writing of what follows from it."""
_RETRY = 5.0

Json = dict[str, Any]


class IngressStatus:
    """Follows passes and proxies. `views` gives the views of connected proxies. Lives on the event loop."""

    def __init__(self, store: Store, feed: Feed, views: Callable[[], Iterable[View]]) -> None:
        self._store = store
        self._feed = feed
        self._views = views
        self._written: dict[NamespacedName, tuple[str, ...]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._feed.listen(lambda _: self.changed())
        self.changed()

    def stop(self) -> None:
        """Write nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop = None

    def changed(self) -> None:
        """Something may be served otherwise, or by others."""
        if self._loop is not None and self._timer is None:
            self._timer = self._loop.call_later(_PAUSE, self._write)

    def _wanted(self) -> dict[NamespacedName, tuple[str, ...]]:
        engine = self._feed.model.engine
        found = engine.call(served, "")
        if not found:
            return {}
        addresses = engine.call(addresses_outside, "")
        if addresses is None:
            labels = engine.call(serving_labels, "")
            views = (one for one in self._views() if one.type == "router" and selects(labels, one.labels))
            addresses = tuple(sorted({at for one in views for at in one.addresses[:1]}))
        return dict.fromkeys(found, addresses)

    def _write(self) -> None:
        self._timer = None
        wanted = self._wanted()
        gone = {key: () for key in self._written if key not in wanted}
        changes = {key: at for key, at in {**wanted, **gone}.items() if self._written.get(key) != at}
        if not changes:
            return
        try:
            self._put(changes)
        except StoreError as error:
            _log.warning("the status of %d Ingresses cannot be written, and will be later: %s", len(changes), error)
            if self._loop is not None:
                self._timer = self._loop.call_later(_RETRY, self._write)
            return
        self._written = wanted

    def _put(self, changes: Mapping[NamespacedName, tuple[str, ...]]) -> None:
        documents: dict[Ref, Json] = {}
        for key, addresses in changes.items():
            ref = Ref("networking.k8s.io", "Ingress", *key)
            document = self._store.get(ref)
            if document is None:
                continue
            status = cast("Json", document.get("status") or {})
            listed = [{"ip" if is_ip(one) else "hostname": one} for one in addresses]
            balancer = {"ingress": listed} if listed else {}
            if status.get("loadBalancer", {}) != balancer:
                documents[ref] = {**document, "status": {**status, "loadBalancer": balancer}}
        if not documents:
            return
        with self._store.transaction(author="system:fairlead", message="status of Ingresses") as tx:
            for ref, document in documents.items():
                if tx.get(ref) is not None:
                    tx.put(ref, document)
