"""Chance, and the few names over which everything random is made, so that it meets."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from tests.differential.topology import Json

T = TypeVar("T")

PATHS = ("/", "/api", "/api/v1", "/apix", "/API", "/admin", "/admin/users", "/a/b/c", "/static/main.css")
HEADERS = {
    "x-user": ("alice", "Alice", "alicia", "bob", ""),
    "x-tier": ("gold", "silver", "goldfish"),
    "cookie": ("session=1", "session=1; theme=dark"),
}
QUERIES = {"q": ("1", "10", ""), "debug": ("true", "")}
METHODS = ("GET", "POST", "PUT", "DELETE")
PUBLIC = ("shop.example", "www.shop.example", "other.example")
"""Hosts that only gateways know."""
SUBJECTS = ("alice", "bob")
DOOR_NAME = "istio-system/door"
SPACES = ("one", "two")


class Chance:
    """Choices out of one source of chance."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance

    def one(self, of: Sequence[T]) -> T:
        """Any of these."""
        return of[self.chance.randrange(len(of))]

    def some(self, of: Sequence[T], most: int = 2) -> list[T]:
        """One or a few of these."""
        return self.chance.sample(list(of), min(len(of), self.chance.randint(1, most)))

    def maybe(self, share: float) -> bool:
        """Whether something that happens so often happens."""
        return self.chance.random() < share

    def text(self, values: Sequence[str]) -> Json:
        """A string match near these values."""
        value = self.one([one for one in values if one] or ["x"])
        how = self.one(("exact", "prefix", "prefix", "regex"))
        if how == "regex":
            return {"regex": self.one((f"{value}.*", value, f".*{value[-2:]}", "[a-z/]+", f"({value}|bob)"))}
        return {how: value if how == "exact" or self.maybe(0.7) else value[: max(1, len(value) - 1)]}
