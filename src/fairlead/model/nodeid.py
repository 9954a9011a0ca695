"""What a proxy's xDS node id says: `TYPE~IP~NAME.NAMESPACE~NAMESPACE.svc.SUFFIX`, as Istio's proxies write it."""

from __future__ import annotations

from typing import NamedTuple


class NodeId(NamedTuple):
    """The parts of a node id; empty where an id has another form. Nothing of it is proven.

    `called` is `NAME.NAMESPACE`, what a proxy is called on the command line.
    """

    type: str
    address: str
    called: str
    domain: str

    @property
    def name(self) -> str:
        """NAME of `called`; a pod's may have dots, a namespace has none."""
        return self.called.rpartition(".")[0] or self.called

    @property
    def namespace(self) -> str:
        """NAMESPACE of `called`."""
        return self.called.rpartition(".")[2] if "." in self.called else ""

    @staticmethod
    def of(text: str) -> NodeId:
        """The parts of any text; those that are missing are empty."""
        parts = text.split("~", 3)
        return NodeId(*parts, *("",) * (4 - len(parts)))

    @staticmethod
    def parse(text: str) -> NodeId:
        """The parts of a node id. Raises ValueError where it has another form."""
        parts = text.split("~")
        if len(parts) != 4 or parts[0] not in ("sidecar", "router"):
            raise ValueError(f"{text!r} is not a node id such as sidecar~10.0.0.1~name.namespace~namespace.svc.suffix")
        return NodeId(*parts)


def called(text: str) -> str:
    """`NAME.NAMESPACE` of a node id, or the text itself where it is none."""
    return NodeId.of(text).called or text
