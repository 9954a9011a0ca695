"""Who asks, and what they may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

ADMIN_GROUP = "system:masters"
AUTHENTICATED = "system:authenticated"


class User(msgspec.Struct, frozen=True):
    """Who sent a request. Members of `system:masters` may do everything."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""

    @property
    def is_admin(self) -> bool:
        """Whether no further permission is needed."""
        return ADMIN_GROUP in self.groups


class Action(msgspec.Struct, frozen=True):
    """What a request wants: a Kubernetes verb on a resource (`serviceaccounts/token` for a sub-resource)."""

    verb: str
    group: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        group = f' in API group "{self.group}"'
        where = f' in the namespace "{self.namespace}"' if self.namespace else " at the cluster scope"
        return f'cannot {self.verb} resource "{self.resource}"{group}{where}'


class Authenticator(Protocol):
    """Turns a bearer token into a user."""

    def authenticate(self, token: str) -> User | None:
        """The user, or None where the token is not valid (any more)."""
        ...


Authorize = Callable[[User, Action], bool]


def nobody_else(user: User, action: Action) -> bool:
    """The default policy: administrators only."""
    return False


def permitted(user: User, action: Action, authorize: Authorize) -> bool:
    """Whether the user may do it."""
    return user.is_admin or authorize(user, action)
