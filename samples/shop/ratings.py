"""ratings: stars for an item."""

from __future__ import annotations

from base import Answer, Headers, Service

STARS = {"1": 5, "2": 4, "3": 3}


def answer(path: str, query: dict[str, str], headers: Headers) -> Answer | None:
    """`/ratings/ID`."""
    stars = STARS.get(path.removeprefix("/ratings/"))
    return (200, {**service.about(headers), "stars": stars}) if stars else None


service = Service("ratings", answer)

if __name__ == "__main__":
    service.serve()
