"""Options that all tests share."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.sidebyside import SideBySide

# How fast examples are made says something of the machine's load, nothing of what is tested.
settings.register_profile("fairlead", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fairlead")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden`: write what is found instead of comparing with what was. Read the difference afterwards."""
    parser.addoption("--update-golden", action="store_true", help="write goldens instead of comparing with them")


def pytest_configure(config: pytest.Config) -> None:
    """Hand the option to child processes, let them be interrupted, and keep gRPC out of their forks."""
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    if config.getoption("--update-golden"):
        os.environ["FAIRLEAD_UPDATE_GOLDEN"] = "1"
    # Started in the background, or with nohup, tests would hand ignored signals down to the programs that they end.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide:
    """Workers that run side by side get tests as `sidebyside` divides them."""
    from tests.sidebyside import SideBySide

    config.option.loadscopereorder = False
    return SideBySide(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Workers put the tests in the order in which they are given out."""
    if hasattr(config, "workerinput"):
        from tests.sidebyside import ordered

        ordered(items)
