"""A proxy in miniature: the client side of ADS by Envoy's rules, for both protocols.

Bodies are words: `listener r:route c:cluster`, `bad` makes the proxy refuse it. The rules that matter here: clusters
warm until their endpoints have come (again), and their acknowledgement is withheld meanwhile; a refused update is
applied in part and the bad ones are named (CDS, LDS), or not at all and without a name (validation).
"""

from __future__ import annotations

from collections import deque

from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from fairlead.xds.messages import DeltaRequest, Response, SotwRequest

TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)


def make(type_url: str, name: str, *words: str) -> Resource:
    return Resource.of(type_url, name, " ".join(words).encode())


def is_bad(resource: Resource) -> bool:
    return b"bad" in resource.body.split()


def words(resource: Resource, prefix: str) -> set[str]:
    return {word[2:] for word in resource.body.decode().split() if word.startswith(prefix + ":")}


class Proxy:
    """Receives responses in stream order; its requests queue by type."""

    def __init__(self, *, delta: bool) -> None:
        self.delta = delta
        self.running: dict[str, dict[str, Resource]] = {item: {} for item in TYPES}
        self.versions: dict[str, dict[str, str]] = {item: {} for item in TYPES}
        self.set_version = dict.fromkeys(TYPES, "")
        self.wanted: dict[str, set[str]] = {ENDPOINT: set(), ROUTE: set()}
        self.warming: set[str] = set()
        self.held_ack: Response | None = None
        self.decode_errors = False
        self.problems: list[str] = []
        self.refused: set[str] = set()
        self.warm: set[str] = set()
        self.exempt: set[str] = set()
        self.asked: set[str] = set()
        self.nonces: dict[str, str] = {}
        self.unanswered: set[str] = set()
        self.outbox: dict[str, deque[DeltaRequest | SotwRequest]] = {}

    # The stream.

    def connect(self) -> list[DeltaRequest | SotwRequest]:
        """The first requests of a stream, in order; whatever was under way on the last one is forgotten."""
        self.outbox = {item: deque() for item in TYPES}
        self.held_ack = None
        self.nonces = {}
        self.unanswered = set()
        self.asked = set()
        burst: list[DeltaRequest | SotwRequest] = []
        for item in TYPES:
            if item in (CLUSTER, LISTENER):
                burst.append(self._first(item, ()))
            elif self.wanted[item]:
                burst.append(self._first(item, tuple(sorted(self.wanted[item]))))
        return burst

    def take(self, item: str) -> DeltaRequest | SotwRequest:
        """The next request about this type, on its way."""
        request = self.outbox[item].popleft()
        if request.nonce and request.nonce == self.nonces.get(item):
            self.unanswered.discard(item)
        return request

    def _first(self, item: str, names: tuple[str, ...]) -> DeltaRequest | SotwRequest:
        self.asked.add(item)
        if self.delta:
            return DeltaRequest(item, subscribe=names, initial_versions=dict(self.versions[item]))
        return SotwRequest(item, names=names, version=self.set_version[item])

    def _send(self, item: str, **fields: object) -> None:
        self.outbox[item].append(
            DeltaRequest(item, **fields) if self.delta else SotwRequest(item, **fields)  # type: ignore[arg-type]
        )

    def _answer(self, response: Response, error: str | None = None) -> None:
        item = response.type_url
        if self.delta:
            self._send(item, nonce=response.nonce, error=error)
            return
        if error is None:
            self.set_version[item] = response.version
        self._send(
            item,
            nonce=response.nonce,
            error=error,
            version=self.set_version[item],
            names=tuple(sorted(self.wanted.get(item, ()))),
        )

    def _want(self, item: str, names: set[str]) -> None:
        """Change what is asked for of endpoints or routes."""
        added, gone = names - self.wanted[item], self.wanted[item] - names
        self.wanted[item] = set(names)
        for name in gone:
            self.running[item].pop(name, None)
            self.versions[item].pop(name, None)
        if not added and not gone:
            return
        if item not in self.asked:
            self.outbox[item].append(self._first(item, tuple(sorted(names))))
        elif self.delta:
            self._send(item, subscribe=tuple(sorted(added)), unsubscribe=tuple(sorted(gone)))
        else:
            self._send(
                item, names=tuple(sorted(names)), nonce=self.nonces.get(item, ""), version=self.set_version[item]
            )

    # Responses.

    def receive(self, response: Response) -> None:
        item = response.type_url
        if item in self.unanswered:
            self.problems.append(f"a second response of {item} while one is unanswered")
        self.nonces[item] = response.nonce
        self.unanswered.add(item)
        if len({resource.name for resource in response.resources}) != len(response.resources):
            self.problems.append(f"a name twice in {response}")
        bad = [resource for resource in response.resources if is_bad(resource)]
        if bad and (self.decode_errors or item in (ENDPOINT, ROUTE)):
            if item == ENDPOINT:
                # A refused first update ends the wait for it (EdsClusterImpl::onConfigUpdateFailed).
                self.warming -= {resource.name for resource in response.resources}
            self._answer(response, "Proto constraint validation failed")
            self._release()
            return
        self._apply(item, [resource for resource in response.resources if resource not in bad], response)
        if bad:
            # The refusal may overtake the request for endpoints, when messages about different types do.
            self.refused |= {resource.name for resource in response.resources}
            self._answer(response, "Error adding/updating " + ", ".join(f"{one.name}: it is bad" for one in bad))
        elif item == CLUSTER and self.warming:
            self.held_ack = response
        else:
            self._answer(response)
        self._release()

    def time_out(self) -> bool:
        """The wait for endpoints ends after a while (initial_fetch_timeout). Whether anything was waited for."""
        waited = bool(self.warming)
        self.warming = set()
        self._release()
        return waited

    def _release(self) -> None:
        # A cluster that was warm once serves on while its update warms.
        self.warm = (self.warm | set(self.running[CLUSTER]) - self.warming) & set(self.running[CLUSTER])
        if self.held_ack is not None and not self.warming:
            response, self.held_ack = self.held_ack, None
            self._answer(response)

    def _apply(self, item: str, resources: list[Resource], response: Response) -> None:
        running = self.running[item]
        gone = set(response.removed)
        if not self.delta and item in (CLUSTER, LISTENER):
            gone = set(running) - {resource.name for resource in response.resources}
        changed: set[str] = set()
        for resource in resources:
            if item in self.wanted and resource.name not in self.wanted[item]:
                continue
            if running.get(resource.name) != resource:
                changed.add(resource.name)
            running[resource.name] = resource
            if not any(is_bad(one) for one in response.resources):
                self.versions[item][resource.name] = resource.version
        if item == CLUSTER and self.delta:
            self._check_removal(gone)
        for name in gone:
            if item not in (ENDPOINT, ROUTE):
                running.pop(name, None)
            self.versions[item].pop(name, None)
        if item == CLUSTER:
            # A cluster that is new or updated warms.
            self.warming = (self.warming & set(running)) | changed
            self._want(ENDPOINT, set(running))
        elif item == ENDPOINT:
            self.warming -= {resource.name for resource in resources} | gone
        else:
            # What it runs already, a response of a whole world only repeats.
            self._check_references([resource for resource in resources if resource.name in changed])
            if item == LISTENER:
                self._want(ROUTE, {name for one in running.values() for name in words(one, "r")})

    def _check_references(self, resources: list[Resource]) -> None:
        for resource in resources:
            missing = words(resource, "c") - set(self.running[CLUSTER]) - self.exempt
            if missing:
                self.problems.append(f"{resource.name} came before {sorted(missing)}")
            cold = words(resource, "c") & self.warming - self.warm - self.exempt - self.refused
            if cold:
                self.problems.append(f"{resource.name} came before the endpoints of {sorted(cold)}")

    def _check_removal(self, gone: set[str]) -> None:
        for item in (LISTENER, ROUTE):
            for resource in self.running[item].values():
                if words(resource, "c") & gone - self.exempt:
                    self.problems.append(f"a cluster of {resource.name} was removed: {sorted(gone)}")
