"""Finds the kinds, and reads documents with them: decode, default, validate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from itertools import islice
from pkgutil import iter_modules
from typing import Any, cast

import msgspec

import fairlead.kinds
from fairlead.ir.kind import DRY_RUN, Kind
from fairlead.model.decode import MOST, decode
from fairlead.model.diagnostic import Diagnostic, Problem, Severity
from fairlead.model.manifest import Json, Manifest
from fairlead.model.names import is_dns_label, is_dns_subdomain, nearest
from fairlead.model.object import Metadata, Object
from fairlead.model.path import METADATA, FieldPath
from fairlead.model.ref import Ref

_LONGEST_MESSAGE = 1000
_TOP = frozenset({"apiVersion", "kind", "metadata", "status"})


class Registry:
    """The kinds by group and name. `registry()` gives the one of this installation."""

    def __init__(self, kinds: Iterable[Kind[Any]]) -> None:
        self.kinds: tuple[Kind[Any], ...] = tuple(sorted(kinds, key=lambda one: (one.group, one.kind)))
        self._by_kind = {(one.group, one.kind): one for one in self.kinds}
        self._by_version = {
            (f"{one.group}/{version}" if one.group else version, one.kind): one
            for one in self.kinds
            for version in one.versions
        }

    def kind(self, group: str, kind: str) -> Kind[Any] | None:
        """The kind, or None."""
        return self._by_kind.get((group, kind))

    def of(self, ref: Ref) -> Kind[Any]:
        """The kind of an object that was admitted before."""
        return self._by_kind[(ref.group, ref.kind)]

    def named(self, word: str) -> list[Kind[Any]]:
        """Kinds that a person may mean by `word`: plural, singular, short name, kind, with or without `.group`."""
        name, _, group = word.lower().partition(".")
        return [
            one
            for one in self.kinds
            if name in (one.plural, one.singular or one.kind.lower(), one.kind.lower(), *one.short_names)
            and (not group or one.group == group or group.endswith("." + one.group))
        ]

    def identify(self, data: Mapping[str, Any]) -> tuple[Kind[Any] | None, list[Problem]]:
        """The kind of a document, or what is wrong with its apiVersion or kind."""
        api_version, kind = data.get("apiVersion"), data.get("kind")
        known = (
            self._by_version.get((api_version, kind))
            if isinstance(kind, str) and isinstance(api_version, str)
            else None
        )
        if known is not None:
            return known, []
        for field, value in (("apiVersion", api_version), ("kind", kind)):
            if not isinstance(value, str) or not value:
                return None, [Problem(FieldPath((field,)), "required", code="FL0004", reason="FieldValueRequired")]
        group, _, version = cast("str", api_version).rpartition("/")
        found = self._by_kind.get((group, cast("str", kind)))
        if found is None:
            return None, [self._unknown(group, cast("str", api_version), cast("str", kind))]
        if version not in found.versions:
            near = nearest(version, found.versions) or found.versions[0]
            said = f"no version {version!r} of {kind}"
            remedy = f"Use apiVersion: {group}/{near}." if group else f"Use apiVersion: {near}."
            return None, [Problem(FieldPath(("apiVersion",)), said, remedy=remedy, code="FL0007")]
        return found, []

    def _unknown(self, group: str, api_version: str, kind: str) -> Problem:
        elsewhere = [one for one in self.kinds if one.kind == kind]
        if elsewhere:
            remedy = f"{kind} is served as apiVersion: {elsewhere[0].api_version}."
            return Problem(FieldPath(("apiVersion",)), f"no kind {kind} in {api_version}", remedy=remedy, code="FL0007")
        near = nearest(kind, [one.kind for one in self.kinds])
        remedy = f"Did you mean {near}?" if near else "`fairlead api-resources` lists the kinds."
        return Problem(FieldPath(("kind",)), f"unknown kind {kind!r} in {api_version}", remedy=remedy, code="FL0007")

    def read(self, data: Json, namespace: str = "default") -> tuple[Object[Any] | None, list[Problem]]:
        """Decode, default and validate one document.

        The object is None exactly if a problem is an error; warnings come with an object.
        """
        kind, problems = self.identify(data)
        if kind is None:
            return None, problems
        if kind.default is not None and _shaped(kind, data):
            data = kind.default(data)
        meta, found = _metadata(kind, data)
        problems.extend(found)
        body = {key: value for key, value in data.items() if key not in _TOP} if kind.inline else data.get("spec", {})
        spec, found = decode(kind.spec, {} if body is None else body, kind.base)
        problems.extend(found)
        if not kind.inline:
            problems.extend(islice(_stray(data), MOST))
        if spec is None or meta is None:
            return None, [_bounded(one) for one in problems]
        home = (meta.namespace or namespace) if kind.namespaced else ""
        status = decode(kind.status, data["status"])[0] if kind.status is not None and "status" in data else None
        obj = Object(kind.ref(home, meta.name), meta, spec, status)
        if not _has_errors(problems) and kind.validate is not None:
            problems.extend(kind.validate(obj))
        return (None if _has_errors(problems) else obj), [_bounded(one) for one in problems]

    def read_manifest(
        self, manifest: Manifest, namespace: str = "default"
    ) -> tuple[Object[Any] | None, list[Diagnostic]]:
        """`read`, with findings placed in the manifest's file."""
        obj, problems = self.read(manifest.data, namespace)
        ref = obj.ref if obj is not None else self._reference(manifest.data, namespace)
        return obj, [Diagnostic.of(one, ref, manifest.position(one.path)) for one in problems]

    def _reference(self, data: Mapping[str, Any], namespace: str) -> Ref:
        meta = data.get("metadata")
        named: Mapping[str, Any] = cast("Mapping[str, Any]", meta) if isinstance(meta, dict) else {}
        group = str(data.get("apiVersion", "")).rpartition("/")[0]
        where = str(named.get("namespace") or namespace)
        return Ref(group, str(data.get("kind", "?")), where, str(named.get("name", "?")))


def _shaped(kind: Kind[Any], data: Json) -> bool:
    return kind.inline or isinstance(data.get("spec", {}), dict)


def _bounded(problem: Problem) -> Problem:
    """The problem with a message that can be shown, however long the value is that it quotes."""
    text = problem.message
    if len(text) <= _LONGEST_MESSAGE:
        return problem
    half = _LONGEST_MESSAGE // 2
    return msgspec.structs.replace(problem, message=f"{text[:half]} ... {text[-half:]}")


def _has_errors(problems: list[Problem]) -> bool:
    return bool(problems) and any(one.severity is Severity.ERROR for one in problems)


def _stray(data: Json) -> Iterable[Problem]:
    for name in data:
        if name not in _TOP and name != "spec":
            near = nearest(name, (*_TOP, "spec"))
            remedy = f"Did you mean {near!r}?" if near else "Settings of this kind stand under spec."
            yield Problem(
                FieldPath((name,)),
                f"unknown field {name!r}",
                remedy=remedy,
                code="FL0003",
                reason="FieldValueUnknown",
            )


def _metadata(kind: Kind[Any], data: Json) -> tuple[Metadata | None, list[Problem]]:
    meta, problems = decode(Metadata, data.get("metadata") or {}, METADATA)
    if meta is None:
        return None, problems
    if not meta.name and not meta.generate_name:
        problems.append(Problem(METADATA / "name", "required", code="FL0004", reason="FieldValueRequired"))
    elif meta.name and not is_dns_subdomain(meta.name):
        problems.append(
            Problem(
                METADATA / "name",
                f"{meta.name!r} is not a DNS name",
                remedy="Use lower-case letters, digits, '-' and '.'; begin and end with a letter or digit.",
            )
        )
    if meta.namespace and not kind.namespaced:
        problems.append(Problem(METADATA / "namespace", f"{kind.kind} is not namespaced", reason="FieldValueForbidden"))
    elif meta.namespace and not is_dns_label(meta.namespace):
        problems.append(Problem(METADATA / "namespace", f"{meta.namespace!r} is not a namespace name"))
    if DRY_RUN in meta.annotations and not kind.tried and kind.group.endswith(".istio.io"):
        where = METADATA.child("annotations", DRY_RUN)
        said = f"a {kind.kind} cannot be tried: it would take effect"
        problems.append(Problem(where, said, remedy="Remove the annotation.", reason="FieldValueForbidden"))
    return (None if _has_errors(problems) else meta), problems


@lru_cache(maxsize=1)
def registry() -> Registry:
    """The kinds of this installation, found by scanning `fairlead.kinds`."""
    found: list[Kind[Any]] = []
    for module in iter_modules(fairlead.kinds.__path__):
        if module.ispkg:
            exported = import_module(f"fairlead.kinds.{module.name}").KIND
            found.append(msgspec.structs.replace(exported, singular=exported.singular or exported.kind.lower()))
    return Registry(found)
