"""reviews: what customers say. v1 shows no stars, v2 black ones, v3 red ones."""

from __future__ import annotations

from base import VERSION, Answer, Headers, Service, call

TEXTS = {"1": "Holds in any weather.", "2": "The line runs free.", "3": "Does what it should."}
COLOURS = {"v2": "black", "v3": "red"}


def answer(path: str, query: dict[str, str], headers: Headers) -> Answer | None:
    """`/reviews/ID`; from v2 on with the stars that ratings knows."""
    item = path.removeprefix("/reviews/")
    if item not in TEXTS:
        return None
    body = {**service.about(headers), "text": TEXTS[item]}
    if VERSION in COLOURS:
        status, rating, _ = call("ratings", f"/ratings/{item}", headers)
        stars = rating["stars"] if status == 200 else None
        body |= {"colour": COLOURS[VERSION], "stars": stars, "ratings_status": status}
    return 200, body


service = Service("reviews", answer)

if __name__ == "__main__":
    service.serve()
