"""A process that writes to a store and says on stdout which writes were acknowledged. Run by test_durability."""

from __future__ import annotations

import sys

from fairlead.model.ref import Ref
from fairlead.store import Store


def main() -> None:
    """Arguments: database, first number, how many."""
    path, first, many = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    store = Store(path)
    for number in range(first, first + many):
        name = f"w{number % 50}"
        made = store.put(Ref("", "ConfigMap", "default", name), {"metadata": {}, "data": {"number": str(number)}})
        print(number, name, made["metadata"]["resourceVersion"], flush=True)  # noqa: T201
    store.close()


if __name__ == "__main__":
    main()
