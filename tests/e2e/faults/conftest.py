"""The shop that all faults are put into, one for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.faults.shop import Shop
from tests.e2e.mesh import Mesh


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop as running processes."""
    with Mesh() as mesh:
        made = Shop(mesh, tmp_path_factory.mktemp("keys"))
        try:
            made.start()
            yield made
        finally:
            made.close()
