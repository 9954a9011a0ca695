"""orders: takes orders over gRPC (service shop.Orders; messages are JSON texts) and writes them into the ledger."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from base import GRACE, HOST, INSTANCE, PORT, VERSION, address, authority, passed_on, peer, until_asked_to_end
from ledger import ask

SERVING = b"\x08\x01"
"""grpc.health.v1.HealthCheckResponse with status SERVING."""


class Orders:
    """The service: Place and Count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: list[dict[str, Any]] = []
        self._fail = int(os.environ.get("FAIL_EVERY", "0"))

    def _about(self, context: grpc.ServicerContext) -> dict[str, Any]:
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        return {"service": "orders", "version": VERSION, "instance": INSTANCE, "peer": peer(headers)}

    def place(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Take an order; the answer has its number and the ledger's."""
        try:
            order = json.loads(request or b"{}")
        except ValueError:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the order is not JSON")
        with self._lock:
            self._orders.append(order)
            number = len(self._orders)
        if self._fail and number % self._fail == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "fails on purpose")
        said = ask(f"ADD order {number} {order.get('item', '')}")
        return json.dumps({**self._about(context), "order": number, "ledger": said}).encode()

    def count(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """How many orders there are."""
        return json.dumps({**self._about(context), "orders": len(self._orders)}).encode()

    def serve(self) -> None:
        """Serve until SIGTERM; then finish what has begun."""
        unary = grpc.unary_unary_rpc_method_handler
        methods = {"Place": unary(self.place), "Count": unary(self.count)}
        health = {"Check": unary(lambda request, context: SERVING)}
        server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", methods),))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),))
        server.add_insecure_port(f"{HOST}:{PORT}")
        server.start()
        print(f"orders {VERSION} serves gRPC on {HOST}:{PORT}", flush=True)
        until_asked_to_end(threading.Event(), lambda: server.stop(GRACE))
        server.wait_for_termination()


def rpc(method: str, order: dict[str, Any], headers: dict[str, str], timeout: float = 10.0) -> dict[str, Any]:
    """Call orders from another service. An error comes back as {"error": CODE, "message": ...}."""
    host, port = address("orders")
    options = [("grpc.default_authority", authority("orders")), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"{host}:{port}", options=options) as channel:
        try:
            metadata = tuple(passed_on(headers).items())
            answer = channel.unary_unary(f"/shop.Orders/{method}")(
                json.dumps(order).encode(), timeout=timeout, metadata=metadata
            )
            return json.loads(answer)
        except grpc.RpcError as error:
            return {"error": error.code().name, "message": error.details()}


if __name__ == "__main__":
    Orders().serve()
