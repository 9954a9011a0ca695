"""catalog: what the shop sells."""

from __future__ import annotations

from base import Answer, Headers, Service

ITEMS = {
    "1": {"id": "1", "name": "Mooring line, 12 mm", "price": 39},
    "2": {"id": "2", "name": "Brass fairlead", "price": 24},
    "3": {"id": "3", "name": "Bow shackle", "price": 8},
}


def answer(path: str, query: dict[str, str], headers: Headers) -> Answer | None:
    """`/items` and `/items/ID`."""
    if path == "/items":
        return 200, {**service.about(headers), "items": list(ITEMS.values())}
    item = ITEMS.get(path.removeprefix("/items/"))
    return (200, {**service.about(headers), "item": item}) if item else None


service = Service("catalog", answer)

if __name__ == "__main__":
    service.serve()
