"""Options that all tests share."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# How fast examples are made says something of the machine's load, nothing of what is tested.
settings.register_profile("fairlead", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fairlead")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden`: write what is found instead of comparing with what was. Read the difference afterwards."""
    parser.addoption("--update-golden", action="store_true", help="write goldens instead of comparing with them")


def pytest_configure(config: pytest.Config) -> None:
    """Hand the option to child processes, let them be interrupted, and gRPC as `fairlead serve` has it."""
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    if config.getoption("--update-golden"):
        os.environ["FAIRLEAD_UPDATE_GOLDEN"] = "1"
    # Started in the background by a shell, tests would hand an ignored SIGINT down to the programs that they interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
