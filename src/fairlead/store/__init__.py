"""Versioned objects with history and watch; SQLite by default.

Knows nothing of particular kinds: it keeps JSON documents. Every acknowledged write is on disk (after
`Store.sync`, where commits do not wait for it).
"""

from fairlead.store.change import ALL, Change, Json, Operation, Part, Place, Version, Wanted
from fairlead.store.errors import (
    AlreadyExists,
    Conflict,
    Gone,
    NotFound,
    StoreError,
    StoreUnusable,
)
from fairlead.store.retention import Retention
from fairlead.store.store import Listing, Store
from fairlead.store.transaction import Transaction

__all__ = [
    "ALL",
    "AlreadyExists",
    "Change",
    "Conflict",
    "Gone",
    "Json",
    "Listing",
    "NotFound",
    "Operation",
    "Part",
    "Place",
    "Retention",
    "Store",
    "StoreError",
    "StoreUnusable",
    "Transaction",
    "Version",
    "Wanted",
]
