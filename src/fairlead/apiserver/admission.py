"""Admission: what is checked and filled in before the store takes a write, without HTTP.

One write is one transaction: read, patch, default, validate, allocate, own, store. A dry run does all of it and
throws the transaction away. Everything that is refused is a `Refusal`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import msgspec

from fairlead.apiserver import handover, namespaces, ownership
from fairlead.apiserver.ownership import Owner
from fairlead.apiserver.refusal import Refusal, bad_request, from_store, invalid, missing, named, qualified
from fairlead.apiserver.schema import structural
from fairlead.apiserver.writes import ANY, Admitted, Judged, Precondition, Write
from fairlead.compiler.registry import Registry
from fairlead.ir.kind import Kind
from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.difference import meaning
from fairlead.model.path import FieldPath
from fairlead.model.ref import Ref
from fairlead.store import AlreadyExists, Store, StoreError, Transaction
from fairlead.store.transaction import timestamp

Json = dict[str, Any]
Allocate = Callable[[Json, Store], Json]
Edit = Callable[[Json], Json]

MAX_DOCUMENT = 3 << 20
_OWN = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields")
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class Unallocatable(Exception):
    """Raised by the `allocate` hook: what the object asks for cannot be had."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(one.message for one in problems))
        self.problems = problems


class _Discard(Exception):
    """Ends the transaction of a dry run."""


def _suffix() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(5))


def _keep(document: Json, store: Store) -> Json:
    return document


def _silent(document: Json) -> tuple[str, ...]:
    return ()


class Admission:
    """The only way by which objects get into the store.

    `allocate(document, store)` fills in what needs the state of others (a Service's address) and may raise
    `Unallocatable`; it sees the object before the write by asking the store.
    `advise(document)` gives warnings that depend on what the mesh is doing. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        allocate: Allocate = _keep,
        advise: Callable[[Json], tuple[str, ...]] = _silent,
        root_namespace: str = "istio-system",
        clock: Callable[[], float] = time.time,
        suffix: Callable[[], str] = _suffix,
    ) -> None:
        self.store = store
        self.registry = registry
        self._allocate = allocate
        self._advise = advise
        self._permanent = (namespaces.DEFAULT, root_namespace)
        self._clock = clock
        self._suffix = suffix

    def bootstrap(self) -> None:
        """Make the namespaces that always exist, and the ServiceAccount of every namespace."""
        kind = self.registry.kind(*namespaces.NAMESPACE)
        if kind is None:
            return
        write = Write(author="system:fairlead", manager="fairlead", message="start")
        for name in self._permanent:
            if self.store.get(namespaces.ref_of(name)) is None:
                self.create(kind, namespaces.document(name), "", write)
        for one in self.store.list(*namespaces.NAMESPACE):
            with self._commit(kind, one["metadata"]["name"], write) as made:
                self._account(made, one["metadata"]["name"])

    # Operations

    def create(self, kind: Kind[Any], document: Json, namespace: str, write: Write) -> Admitted:
        """Add an object. `namespace` is the one of the request ("" for cluster-scoped kinds)."""
        document = self._shaped(kind, document, namespace, "", write)
        meta = document["metadata"]
        if not meta.get("name") and isinstance(meta.get("generateName"), str) and meta["generateName"]:
            meta["name"] = f"{meta['generateName'][:240]}{self._suffix()}"
        name: object = meta.get("name")
        ref = kind.ref(namespace, name if isinstance(name, str) else "")
        with self._commit(kind, ref.name, write, "create") as made:
            self._home(kind, made, ref)
            if ref.name and made.get(ref) is not None:
                raise AlreadyExists(ref)
            return self._insert(made, kind, ref, document, write)

    def replace(self, kind: Kind[Any], ref: Ref, document: Json, write: Write) -> Admitted:
        """Update an object with a whole document."""
        return self.edit(kind, ref, lambda _: document, write, verb="update")

    def edit(self, kind: Kind[Any], ref: Ref, edit: Edit, write: Write, *, verb: str = "patch") -> Admitted:
        """Update an object with what `edit` makes of it (in the version of the request)."""
        with self._commit(kind, ref.name, write, verb) as made:
            old = made.get(ref)
            if old is None:
                raise missing(kind, ref.name)
            new = self._shaped(kind, edit(self.converted(kind, old, write.version)), ref.namespace, ref.name, write)
            owners, times = ownership.decode_owners(new["metadata"].get("managedFields"))
            reset = new["metadata"].get("managedFields") in ([{}], [])
            if not owners and not reset:
                owners, times = ownership.decode_owners(old["metadata"].get("managedFields"))
            new = self._scoped(kind, old, new, write)
            writer = Owner(write.manager, "Update", self._version(kind, write), write.subresource)
            return self._modify(
                made,
                kind,
                ref,
                old,
                new,
                write,
                lambda final: ownership.after_update(old, final, owners, writer, self._schema(kind)),
                times,
            )

    def apply(self, kind: Kind[Any], ref: Ref, config: Json, write: Write) -> Admitted:
        """Server-side apply. Creates the object where there is none."""
        config = cast("Json", ownership.without_nulls(config))
        config = self._shaped(kind, config, ref.namespace, ref.name, write)
        if config["metadata"].pop("managedFields", None):
            raise bad_request("metadata.managedFields must be nil: an applied configuration does not carry it")
        schema = self._schema(kind)
        applier = Owner(write.manager, "Apply", self._version(kind, write), write.subresource)
        with self._commit(kind, ref.name, write, "apply") as made:
            self._home(kind, made, ref)
            old = made.get(ref)
            if old is None and write.subresource:
                raise missing(kind, ref.name)
            owners, times = ownership.decode_owners(old["metadata"].get("managedFields") if old else None)
            live = old or {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": ref.name}}
            merged, after, conflicts = ownership.apply(live, config, owners, applier, schema, force=write.force)
            by_kubectl = write.manager == handover.MANAGER and not write.subresource
            if conflicts and by_kubectl and handover.is_own(live, conflicts, schema):
                merged, after, conflicts = ownership.apply(live, config, owners, applier, schema, force=True)
            if conflicts:
                raise _conflict(conflicts)
            if by_kubectl:
                merged = handover.refreshed(merged, config)
            if old is None:
                return self._insert(made, kind, ref, merged, write, after)
            new = self._scoped(kind, old, merged, write)
            if config["metadata"].get("resourceVersion"):
                new["metadata"]["resourceVersion"] = config["metadata"]["resourceVersion"]
            return self._modify(made, kind, ref, old, new, write, lambda _: after, times)

    def delete(self, kind: Kind[Any], ref: Ref, write: Write, precondition: Precondition = ANY) -> tuple[Json, bool]:
        """Remove an object, a namespace with its content. Returns the last document and whether it is gone: an
        object with finalizers is marked, and goes when the last of them is removed."""
        if (kind.group, kind.kind) == namespaces.NAMESPACE and ref.name in self._permanent:
            said = f'namespaces "{ref.name}" is forbidden: this namespace may not be deleted'
            raise Refusal(403, said, details=named(kind, ref.name))
        with self._commit(kind, ref.name, write, "delete") as made:
            return self._delete(made, kind, ref, precondition)

    def delete_collection(self, kind: Kind[Any], refs: list[Ref], write: Write) -> None:
        """Remove several objects in one transaction."""
        with self._commit(kind, "", write, "deletecollection") as made:
            for ref in refs:
                self._delete(made, kind, ref, ANY)

    def judged(self, wanted: Mapping[Ref, Json | None], now: Mapping[Ref, Json | None], write: Write) -> Judged:
        """What admission says of documents that are to be restored, where there is now what `now` has. Raises Refusal.

        Does not ask the store: there may be thousands of them, and a copy of the process can do it.
        """
        out = Judged()
        for ref, document in sorted(wanted.items()):
            if document is not None:
                kind, old = self._kind_of(ref), now[ref]
                new = self._restorable(kind, document, old, write)
                made, warnings = self._judge(kind, old, new, ref)
                out.warnings += (f"{ref} {one}" for one in warnings)
                if made != new:
                    out.altered.append((ref, made))
        return out

    def restore(
        self, wanted: Mapping[Ref, Json | None], now: Mapping[Ref, Json | None], judged: Judged, write: Write
    ) -> None:
        """Make objects be as these stored documents say (None: gone), in one commit, as it was `judged`.

        What the API keeps for itself goes on: uid, status, and the owners of fields are those of the document.
        Namespaces come first and go last. Raises Refusal, also where an object is not what it was when it was judged.
        """
        kinds = {ref: self._kind_of(ref) for ref in wanted}
        order = sorted(wanted, key=lambda ref: ((ref.group, ref.kind) != namespaces.NAMESPACE, ref))
        altered = dict(judged.altered)
        with self._commit(kinds[order[0]], order[0].name, write, "rollback") as made:
            for ref in order:
                document, old = wanted[ref], made.get(ref)
                if meaning(old) != meaning(now[ref]):
                    raise Refusal(409, f"{ref} was edited at this moment: ask again [FL3900]")
                if document is not None:
                    new = altered.get(ref) or self._restorable(kinds[ref], document, old, write)
                    self._restore(made, kinds[ref], ref, document, (old, new))
            for ref in reversed(order):
                if wanted[ref] is None and made.get(ref) is not None:
                    self._delete(made, kinds[ref], ref, ANY)

    def _kind_of(self, ref: Ref) -> Kind[Any]:
        kind = self.registry.kind(ref.group, ref.kind)
        if kind is None:
            raise bad_request(f"{ref} is of a kind that is not served any more")
        return kind

    def _restorable(self, kind: Kind[Any], document: Json, old: Json | None, write: Write) -> Json:
        """A stored document as it is judged and written: without what the API keeps for itself."""
        meta = {key: value for key, value in document["metadata"].items() if key not in _OWN}
        new: Json = {key: value for key, value in document.items() if key != "status"} | {"metadata": meta}
        if old is not None:
            return self._scoped(kind, old, new, write)
        if kind.allocate is not None and "status" in document:
            # An address is given by what the object says it has: it gets the one that it had, where that is free.
            passing = ("conditions", "observedGeneration")
            new["status"] = {key: value for key, value in document["status"].items() if key not in passing}
        return new

    def _restore(
        self, made: Transaction, kind: Kind[Any], ref: Ref, document: Json, change: tuple[Json | None, Json]
    ) -> None:
        """Write what was judged, with the owners of fields that the document has."""
        self._home(kind, made, ref)
        old, new = change
        owners, times = ownership.decode_owners(document["metadata"].get("managedFields"))
        if old is None:
            self._create(made, kind, ref, self._owned(new, owners, {}, {}))
        else:
            before, _ = ownership.decode_owners(old["metadata"].get("managedFields"))
            self._update(made, ref, self._owned(new, owners, before, times))

    def converted(self, kind: Kind[Any], document: Json, version: str) -> Json:
        """A document in another version of its kind; versions differ in nothing but their name."""
        if not version or version == kind.versions[0]:
            return document
        return {**document, "apiVersion": f"{kind.group}/{version}" if kind.group else version}

    # Parts

    @contextmanager
    def _commit(self, kind: Kind[Any], name: str, write: Write, verb: str = "write") -> Generator[Transaction]:
        via = f"{verb} by {write.manager}"
        try:
            with self.store.transaction(
                author=write.author, message=write.message, via=via, command=write.command
            ) as made:
                yield made
                if write.dry_run:
                    raise _Discard
        except _Discard:
            pass
        except StoreError as error:
            raise from_store(kind, name, error) from None

    def _version(self, kind: Kind[Any], write: Write) -> str:
        version = write.version or kind.versions[0]
        return f"{kind.group}/{version}" if kind.group else version

    def _schema(self, kind: Kind[Any]) -> Json:
        return structural(kind, kind.versions[0])

    def _shaped(self, kind: Kind[Any], document: object, namespace: str, name: str, write: Write) -> Json:
        """The document in the stored version, if it is of the kind, namespace and name of the request."""
        if not isinstance(document, dict):
            raise bad_request(f"the body is not an object: send a {kind.kind}")
        data = dict(cast("Json", document))
        wanted = self._version(kind, write)
        for field, value in (("apiVersion", wanted), ("kind", kind.kind)):
            found = data.setdefault(field, value)
            if found != value:
                said = f"{field} in the body ({found!r}) does not match the one of the request ({value!r})"
                raise bad_request(said)
        meta = data.get("metadata", {})
        if not isinstance(meta, dict):
            raise invalid(kind, name, [Problem(FieldPath(("metadata",)), "expected an object")])
        meta = dict(cast("Json", meta))
        given = meta.get("namespace")
        if given and kind.namespaced and given != namespace:
            said = f"the namespace of the object ({given}) does not match the namespace on the request ({namespace})"
            raise bad_request(f"{said}: leave out one of them")
        if name and meta.setdefault("name", name) != name:
            said = f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
            raise bad_request(said)
        if kind.namespaced:
            meta["namespace"] = namespace
        return {**data, "apiVersion": kind.api_version, "metadata": meta}

    def _home(self, kind: Kind[Any], made: Transaction, ref: Ref) -> None:
        home = self.registry.kind(*namespaces.NAMESPACE)
        if not kind.namespaced or home is None:
            return
        if made.get(namespaces.ref_of(ref.namespace)) is None:
            refused = missing(home, ref.namespace)
            remedy = f"Create it first, for example with: kubectl create namespace {ref.namespace}"
            raise Refusal(404, f"{refused.message}. {remedy}", details=refused.details)

    def _scoped(self, kind: Kind[Any], old: Json, new: Json, write: Write) -> Json:
        """What this write may change: the status, or everything but the status."""
        if write.subresource == "status":
            kept = {**old["metadata"], "managedFields": new["metadata"].get("managedFields", [])}
            given = new["metadata"].get("resourceVersion")
            if given:
                kept["resourceVersion"] = given
            status = new.get("status", {})
            if not isinstance(status, dict):
                raise invalid(kind, kept["name"], [Problem(FieldPath(("status",)), "expected an object")])
            return {**old, "metadata": kept, "status": status}
        if kind.has_status:
            new = {key: value for key, value in new.items() if key != "status"}
            if "status" in old:
                new["status"] = old["status"]
        if old["metadata"].get("deletionTimestamp"):
            new["metadata"]["deletionTimestamp"] = old["metadata"]["deletionTimestamp"]
        return new

    def _create(self, made: Transaction, kind: Kind[Any], ref: Ref, document: Json) -> Json:
        """Write a new object, and what comes with it; as it is stored."""
        stored = made.create(ref, document)
        if (kind.group, kind.kind) == namespaces.NAMESPACE:
            self._account(made, ref.name)
        return stored

    def _update(self, made: Transaction, ref: Ref, document: Json) -> Json:
        """Write an object that there is; it goes where only its finalizers have kept it. As it is stored."""
        stored = made.update(ref, document)
        meta = stored["metadata"]
        return made.delete(ref) if meta.get("deletionTimestamp") and not meta.get("finalizers") else stored

    def _insert(
        self,
        made: Transaction,
        kind: Kind[Any],
        ref: Ref,
        document: Json,
        write: Write,
        owners: ownership.Owners | None = None,
    ) -> Admitted:
        if kind.has_status:
            document = {key: value for key, value in document.items() if key != "status"}
        if document["metadata"].get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        new, warnings = self._judge(kind, None, document, ref)
        if owners is None:
            writer = Owner(write.manager, "Update", self._version(kind, write))
            owners = ownership.after_update(None, new, {}, writer, self._schema(kind))
        stored = self._create(made, kind, ref, self._owned(new, owners, {}, {}))
        if write.dry_run:
            del stored["metadata"]["resourceVersion"]
        return Admitted(self.converted(kind, stored, write.version), warnings, created=True)

    def _modify(
        self,
        made: Transaction,
        kind: Kind[Any],
        ref: Ref,
        old: Json,
        new: Json,
        write: Write,
        own: Callable[[Json], ownership.Owners],
        times: dict[Owner, str],
    ) -> Admitted:
        warnings: tuple[str, ...] = ()
        if write.subresource != "status":
            new, warnings = self._judge(kind, old, new, ref)
        before, _ = ownership.decode_owners(old["metadata"].get("managedFields"))
        stored = self._update(made, ref, self._owned(new, own(new), before, times))
        if write.dry_run:
            # What was not written has no new version; `kubectl diff` would show it as a change.
            stored["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        return Admitted(self.converted(kind, stored, write.version), warnings)

    def _owned(
        self, document: Json, owners: ownership.Owners, before: ownership.Owners, times: dict[Owner, str]
    ) -> Json:
        entries = ownership.encode_owners(owners, before, times, timestamp(self._clock()))
        meta = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
        if entries:
            meta["managedFields"] = entries
        out = {**document, "metadata": meta}
        if len(msgspec.json.encode(out)) > MAX_DOCUMENT:
            raise Refusal(413, f"the object is larger than {MAX_DOCUMENT >> 20} MiB: split it")
        return out

    def _judge(self, kind: Kind[Any], old: Json | None, document: Json, ref: Ref) -> tuple[Json, tuple[str, ...]]:
        """Default, decode, validate, allocate."""
        shaped = kind.inline or isinstance(document.get("spec", {}), dict)
        if kind.default is not None and shaped:
            document = kind.default(document)
        obj, problems = self.registry.read(document, ref.namespace)
        if obj is not None and old is not None and kind.validate_update is not None:
            before, _ = self.registry.read(old, ref.namespace)
            if before is not None:
                problems = [*problems, *kind.validate_update(before, obj)]
        if obj is None or any(one.severity is Severity.ERROR for one in problems):
            raise invalid(kind, ref.name, problems)
        try:
            document = self._allocate(document, self.store)
        except Unallocatable as error:
            raise invalid(kind, ref.name, error.problems) from None
        own = (
            f"{one.path}: {one.message}" + (f". {one.remedy}" if one.remedy else "")
            for one in problems
            if one.severity is Severity.WARNING
        )
        # What only the running mesh knows comes first: of very many warnings an answer has no place for the last.
        return document, (*self._advise(document), *own)

    def _account(self, made: Transaction, namespace: str) -> None:
        if self.registry.kind(*namespaces.ACCOUNT) is not None and made.get(namespaces.account_of(namespace)) is None:
            made.create(namespaces.account_of(namespace), namespaces.account(namespace))

    def _delete(self, made: Transaction, kind: Kind[Any], ref: Ref, precondition: Precondition) -> tuple[Json, bool]:
        old = made.get(ref)
        if old is None:
            raise missing(kind, ref.name)
        meta = old["metadata"]
        for field, wanted in (("uid", precondition.uid), ("resourceVersion", precondition.resource_version)):
            if wanted and wanted != meta[field]:
                said = f"Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {meta[field]}"
                said = f'Operation cannot be fulfilled on {qualified(kind)} "{ref.name}": {said}'
                raise Refusal(409, said, details=named(kind, ref.name))
        if meta.get("finalizers"):
            if not meta.get("deletionTimestamp"):
                marked = {**meta, "deletionTimestamp": timestamp(self._clock())}
                old = made.update(ref, {**old, "metadata": marked})
            return old, False
        if (kind.group, kind.kind) == namespaces.NAMESPACE:
            for inner in namespaces.content(self.store, self.registry, ref.name):
                made.delete(inner)
        out = made.delete(ref)
        if (kind.group, kind.kind) == namespaces.ACCOUNT and ref.name == namespaces.DEFAULT:
            self._account(made, ref.namespace)
        return out, True


def _conflict(conflicts: list[ownership.FieldConflict]) -> Refusal:
    """409 in the form that `kubectl apply --server-side` explains to its user."""
    causes: list[Json] = []
    for one in conflicts:
        version = f" using {one.owner.api_version}" if one.owner.operation == "Update" else ""
        sub = f' with subresource "{one.owner.subresource}"' if one.owner.subresource else ""
        said = f'conflict with "{one.owner.manager}"{sub}{version}'
        causes.append({"reason": "FieldManagerConflict", "message": said, "field": ownership.show(one.path)})
    many = len(causes)
    said = "; ".join(f"{one['message']}: {one['field']}" for one in causes)
    message = f"Apply failed with {many} conflict{'s' if many > 1 else ''}: {said}"
    return Refusal(409, message, details={"causes": causes})
