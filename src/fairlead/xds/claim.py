"""Who a client may say it is: what its certificate says, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.model.identity import Identity
from fairlead.xds.wire import Node


class Refused(Exception):
    """A source gives this peer nothing; the message goes to the client with PERMISSION_DENIED."""


def claimed(node: Node) -> tuple[str, str]:
    """The namespace and service account that a node claims (Istio's node metadata). Empty where it claims none.

    Without NAMESPACE in the metadata, the namespace is that of the node id `TYPE~IP~NAME.NAMESPACE~DOMAIN`.
    """
    namespace = str(node.metadata.get("NAMESPACE") or "")
    return namespace or node.parts.namespace, str(node.metadata.get("SERVICE_ACCOUNT") or "")


def check_claim(peer: Identity, node: Node, trust_domain: str, aliases: Sequence[str] = ()) -> None:
    """A node is who its certificate says, or gets nothing. Raises Refused."""
    namespace, account = claimed(node)
    if peer.trust_domain not in (trust_domain, *aliases):
        raise Refused(f"{peer} is not of this mesh's trust domain {trust_domain}")
    if not namespace or not account:
        raise Refused("the node has no metadata NAMESPACE and SERVICE_ACCOUNT: start the proxy with an agent")
    if (namespace, account) != (peer.namespace, peer.service_account):
        raise Refused(f"node {node.id} says it is {namespace}/{account}, but its certificate is of {peer}")
