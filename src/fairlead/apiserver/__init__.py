"""Kubernetes-style REST over the store, with admission by the kinds.

Knows no particular kind; what differs between kinds comes from their descriptors.
"""

from fairlead.apiserver.admission import Admission, Unallocatable
from fairlead.apiserver.app import user_of
from fairlead.apiserver.auth import ADMIN_GROUP, Action, Authenticator, Authorize, User
from fairlead.apiserver.refusal import Refusal
from fairlead.apiserver.reviews import Token, TokenIssuer
from fairlead.apiserver.server import ApiServer, ServerError
from fairlead.apiserver.writes import Admitted, Precondition, Write

__all__ = [
    "ADMIN_GROUP",
    "Action",
    "Admission",
    "Admitted",
    "ApiServer",
    "Authenticator",
    "Authorize",
    "Precondition",
    "Refusal",
    "ServerError",
    "Token",
    "TokenIssuer",
    "Unallocatable",
    "User",
    "Write",
    "user_of",
]
