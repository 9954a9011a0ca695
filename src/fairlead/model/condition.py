"""Status conditions, as Kubernetes defines them (metav1.Condition)."""

from __future__ import annotations

import msgspec


class Condition(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One observation about an object. Times are set by whoever writes it to the store."""

    type: str
    status: str
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""
