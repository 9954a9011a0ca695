"""What the store refuses, and why."""

from __future__ import annotations

from fairlead.model.ref import Ref


class StoreError(Exception):
    """Base of everything that the store raises on purpose; its text is a sentence for people."""


class StoreUnusable(StoreError):
    """The database cannot be opened, read or written (in use, disk full, not a Fairlead database)."""


class NotFound(StoreError):
    """There is no such object."""

    def __init__(self, ref: Ref) -> None:
        super().__init__(f"{ref} does not exist")
        self.ref = ref


class AlreadyExists(StoreError):
    """There is such an object already."""

    def __init__(self, ref: Ref) -> None:
        super().__init__(f"{ref} already exists")
        self.ref = ref


class Conflict(StoreError):
    """The object is not the one that the writer read: its resourceVersion or uid differs."""

    def __init__(self, ref: Ref, field: str, wanted: str, found: str) -> None:
        super().__init__(f"{ref} has {field} {found}, not {wanted}: it was changed since it was read")
        self.ref = ref
        self.field = field
        self.wanted = wanted
        self.found = found


class Gone(StoreError):
    """A revision that is not kept any more (or was never reached); what can be read begins at `oldest`."""

    def __init__(self, revision: int, oldest: int, newest: int) -> None:
        super().__init__(f"revision {revision} is not available: the history holds revisions {oldest} to {newest}")
        self.revision = revision
        self.oldest = oldest
        self.newest = newest
