"""What looks at the labels of proxies: an index for each table with facts that choose proxies, or callers, by labels.

Each index has a fact under every pair `(label, value)` that it asks for, and under the label's name alone. Labels that
nobody asks for are left out of views before anything is compiled (`compiler.reduced`), so that proxies share more.

**A table whose facts choose proxies by labels must have its index here**, else the choice is never seen. Where filters
of filter chains depend on the choice (or you are not sure), it belongs to `FILTERING`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fairlead.inc import Index
from fairlead.ir.attachment import GATEWAY_NAME_LABELS, Target
from fairlead.ir.authn import REQUEST_POLICIES
from fairlead.ir.filters import Pairs
from fairlead.ir.gateway import GATEWAYS
from fairlead.ir.host import HOSTS
from fairlead.ir.route import ROUTES, RouteSet
from fairlead.ir.security import ACCESS_POLICIES, PEER_POLICIES
from fairlead.ir.traffic import TRAFFIC_POLICIES

Asked = str | tuple[str, str]
"""A label's name, or the name and a value."""


def asked(pairs: Pairs) -> Iterator[Asked]:
    """The buckets of a fact that asks for these labels."""
    for name, value in pairs:
        yield name
        yield (name, value)


def attached(selector: Pairs, targets: Iterable[Target]) -> Iterator[Asked]:
    """The buckets of a policy: its selector, or the labels of the proxies of the gateways that it names."""
    yield from asked(selector)
    yield from asked(tuple((label, target.name) for target in targets for label in GATEWAY_NAME_LABELS))


def _callers(routes: RouteSet) -> Iterator[Asked]:
    for rule in (*routes.http, *routes.tls, *routes.tcp):
        for match in rule.matches:
            yield from asked(match.source_labels)


HOSTS_SELECTING = HOSTS.index("selecting", lambda key, host: asked(host.selector or ()))
PEER_POLICIES_SELECTING = PEER_POLICIES.index("selecting", lambda key, policy: asked(policy.selector))
GATEWAYS_SELECTING = GATEWAYS.index("selecting", lambda key, gateway: asked(gateway.selector))
ROUTES_SELECTING = ROUTES.index("selecting", lambda key, routes: _callers(routes))
TRAFFIC_POLICIES_SELECTING = TRAFFIC_POLICIES.index("selecting", lambda key, policy: asked(policy.selector))
ACCESS_POLICIES_SELECTING = ACCESS_POLICIES.index(
    "selecting", lambda key, policy: attached(policy.selector, policy.targets)
)
REQUEST_POLICIES_SELECTING = REQUEST_POLICIES.index(
    "selecting", lambda key, policy: attached(policy.selector, policy.targets)
)

FILTERING: tuple[Index[Asked, Any, Any], ...] = (ACCESS_POLICIES_SELECTING, REQUEST_POLICIES_SELECTING)
"""Those on which the filters of a proxy's filter chains may depend."""
SELECTING: tuple[Index[Asked, Any, Any], ...] = (
    HOSTS_SELECTING,
    PEER_POLICIES_SELECTING,
    GATEWAYS_SELECTING,
    ROUTES_SELECTING,
    TRAFFIC_POLICIES_SELECTING,
    *FILTERING,
)
"""All of them."""
