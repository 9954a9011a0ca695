"""The status of a Process, as the node that runs it writes it."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.model.condition import Condition

ReplicaState = Literal["Starting", "Running", "Draining", "Waiting", "Completed", "Failed"]


class ReplicaStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One replica. `pid` is its agent's; `last_exit` says how it ended the last time (`exit 1`, `signal 9`)."""

    name: str
    state: ReplicaState
    address: str = ""
    ready: bool = False
    pid: int = 0
    restarts: int = 0
    last_exit: str = ""
    capture: str = ""
    message: str = ""


class ProcessStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What runs of a Process. `updated_replicas` run the current spec."""

    observed_generation: int = 0
    node: str = ""
    replicas: int = 0
    ready_replicas: int = 0
    updated_replicas: int = 0
    instances: tuple[ReplicaStatus, ...] = ()
    conditions: tuple[Condition, ...] = ()
