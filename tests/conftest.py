"""Options that all tests share."""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden`: write what is found instead of comparing with what was. Read the difference afterwards."""
    parser.addoption("--update-golden", action="store_true", help="write goldens instead of comparing with them")


def pytest_configure(config: pytest.Config) -> None:
    """Tests read it from the environment, as their child processes do."""
    if config.getoption("--update-golden"):
        os.environ["FAIRLEAD_UPDATE_GOLDEN"] = "1"
