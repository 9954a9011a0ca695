"""web: the shop's front. Calls everybody else."""

from __future__ import annotations

from base import Answer, Headers, Service, call, passed_on
from ledger import ask
from orders import rpc


def answer(path: str, query: dict[str, str], headers: Headers) -> Answer | None:
    """`/` and `/product/ID`, `/order?item=ID`, `/orders`, `/ledger`."""
    if path == "/" or path.startswith("/product/"):
        item = path.removeprefix("/product/").strip("/") or "1"
        return _product(item, headers)
    if path == "/order":
        placed = rpc("Place", {"item": query.get("item", "1")}, passed_on(headers))
        return (502 if "error" in placed else 200), {**service.about(headers), "order": placed}
    if path == "/orders":
        counted = rpc("Count", {}, passed_on(headers))
        return (502 if "error" in counted else 200), {**service.about(headers), "orders": counted}
    if path == "/ledger":
        said = ask(query.get("say", "VERSION"))
        return (502 if said.startswith("ERROR") else 200), {**service.about(headers), "ledger": said}
    return None


def _product(item: str, headers: Headers) -> Answer:
    item_status, details, _ = call("catalog", f"/items/{item}", headers)
    review_status, review, _ = call("reviews", f"/reviews/{item}", headers)
    body = {**service.about(headers), "catalog": details, "reviews": review}
    body |= {"catalog_status": item_status, "reviews_status": review_status}
    return (200 if item_status == review_status == 200 else 502), body


service = Service("web", answer)

if __name__ == "__main__":
    service.serve()
