"""Single edits of objects, to be tried: what would be if a field were another, or an object were not there."""

from __future__ import annotations

import copy
from typing import Any, Literal, cast

import msgspec

from fairlead.compiler.model import OBJECTS, MeshModel
from fairlead.model.decode import encode
from fairlead.model.diagnostic import Origin
from fairlead.model.manifest import Json
from fairlead.model.object import Object
from fairlead.model.path import FieldPath
from fairlead.model.ref import Ref

Made = tuple[list[Object[Any]], list[Ref]]
"""Objects that are put, and those that are deleted."""


class Edit(msgspec.Struct, frozen=True):
    """One change of one object. `value` is what is set, appended or created."""

    ref: Ref
    action: Literal["remove", "set", "append", "delete", "create"]
    path: FieldPath = FieldPath()
    value: Any = None

    @property
    def origin(self) -> Origin:
        """What is edited."""
        return Origin(self.ref, self.path)

    @property
    def said(self) -> str:
        """The edit in words."""
        what = f"{self.ref} {self.path}".strip()
        match self.action:
            case "remove":
                return f"remove {what}"
            case "delete":
                return f"delete {what}"
            case "create":
                return f"create {what}: {_short(self.value.get('spec', {}))}"
            case "append":
                return f"add {_short(self.value)} to {what}"
            case _:
                return f"set {what} to {_short(self.value)}"


def _short(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


class Editor:
    """Edits of a model's objects."""

    def __init__(self, model: MeshModel) -> None:
        self._model = model

    def document(self, ref: Ref) -> Json | None:
        """An object as a document."""
        obj = self._model.engine.get(OBJECTS, ref)
        kind = self._model.kinds.kind(ref.group, ref.kind)
        if obj is None or kind is None:
            return None
        head: Json = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": encode(obj.meta)}
        spec = cast("Json", encode(obj.spec))
        whole = {**head, **spec} if kind.inline else {**head, "spec": spec}
        # Tuples become lists, which can be edited.
        return msgspec.json.decode(msgspec.json.encode(whole), type=dict[str, Any])

    def made(self, edit: Edit) -> Made | None:
        """What is put and what is deleted by an edit; None where it makes no valid object."""
        if edit.action == "delete":
            return ([], [edit.ref]) if self._model.engine.get(OBJECTS, edit.ref) is not None else None
        document = edit.value if edit.action == "create" else self.document(edit.ref)
        if document is None:
            return None
        if edit.action != "create":
            document = copy.deepcopy(document)
            if not _apply(document, edit):
                return None
        obj, _ = self._model.kinds.read(document, edit.ref.namespace)
        before = self._model.engine.get(OBJECTS, edit.ref)
        if obj is None or (before is not None and obj.spec == before.spec and obj.meta == before.meta):
            return None
        kept = before.status if before is not None else None
        return [msgspec.structs.replace(obj, status=kept)], []


def _apply(document: Json, edit: Edit) -> bool:
    """Change the document in place; whether that was possible."""
    at: Any = document
    parts = tuple(edit.path)
    for number, part in enumerate(parts[:-1]):
        if isinstance(at, list) and isinstance(part, int) and part < len(cast("list[Any]", at)):
            at = cast("list[Any]", at)[part]
        elif isinstance(at, dict):
            following = parts[number + 1]
            fields = cast("Json", at)
            if str(part) not in fields:
                if edit.action == "remove":
                    return False
                fields[str(part)] = [] if isinstance(following, int) else {}
            at = fields[str(part)]
        else:
            return False
    return _leaf(at, parts[-1], edit)


def _leaf(at: Any, part: str | int, edit: Edit) -> bool:
    if isinstance(at, list):
        listed = cast("list[Any]", at)
        if not isinstance(part, int) or part >= len(listed):
            return False
        if edit.action == "remove":
            del listed[part]
        else:
            listed[part] = edit.value
        return True
    if not isinstance(at, dict):
        return False
    fields, name = cast("Json", at), str(part)
    if edit.action == "remove":
        return fields.pop(name, None) is not None
    if edit.action == "append":
        fields.setdefault(name, [])
        if not isinstance(fields[name], list) or edit.value in fields[name]:
            return False
        fields[name].append(edit.value)
        return True
    fields[name] = edit.value
    return True
