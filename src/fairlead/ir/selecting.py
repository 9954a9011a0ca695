"""What looks at the labels of proxies: an index for each table with facts that choose proxies, or callers, by labels.

Each index has a fact under every pair `(label, value)` that it asks for. Labels that nobody asks for are left out of
views before anything is compiled (`compiler.reduced`), so that proxies share more.

**A table whose facts choose proxies by labels must have its index here**, else the choice is never seen. Where filters
of filter chains depend on the choice (or you are not sure), it belongs to `FILTERING`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fairlead.inc import Index
from fairlead.ir.attachment import GATEWAY_NAME_LABELS, Target
from fairlead.ir.authn import REQUEST_POLICIES
from fairlead.ir.extension import EXTENSIONS
from fairlead.ir.filters import Pairs
from fairlead.ir.gateway import GATEWAYS
from fairlead.ir.host import HOSTS
from fairlead.ir.patch import PATCHES, PatchSet
from fairlead.ir.ratelimit import RATE_POLICIES
from fairlead.ir.route import ROUTES, RouteSet
from fairlead.ir.security import ACCESS_POLICIES, PEER_POLICIES
from fairlead.ir.sidecar import SIDECARS
from fairlead.ir.telemetry import TELEMETRY
from fairlead.ir.traffic import TRAFFIC_POLICIES

Label = tuple[str, str]
"""A label's name and value."""


def attached(selector: Pairs, targets: Iterable[Target]) -> Iterator[Label]:
    """The buckets of a policy: its selector, or the labels of the proxies of the gateways that it names."""
    yield from selector
    yield from ((label, target.name) for target in targets for label in GATEWAY_NAME_LABELS)


def _callers(routes: RouteSet) -> Iterator[Label]:
    for rule in (*routes.http, *routes.tls, *routes.tcp):
        for match in rule.matches:
            yield from match.source_labels


def _asked(patches: PatchSet) -> Iterator[str]:
    for patch in patches.patches:
        yield from (name for name, _ in patch.metadata)
        if patch.version:
            yield PROXY_VERSION


PROXY_VERSION = "FAIRLEAD_VERSION"
"""The metadata by which a proxy says its agent's version."""
PATCHES_ASKING = PATCHES.index("asking", lambda key, patches: _asked(patches))
"""Patches by the names of the node metadata at which they look."""
PATCHES_ASKING_ANYTHING = PATCHES.index("asking-anything", lambda key, patches: [""] if list(_asked(patches)) else ())
"""Patches that look at any, under the empty name."""
PATCHES_SELECTING = PATCHES.index("selecting", lambda key, patches: attached(patches.selector, patches.targets))
EXTENSIONS_SELECTING = EXTENSIONS.index("selecting", lambda key, one: attached(one.selector, one.targets))
RATE_POLICIES_SELECTING = RATE_POLICIES.index(
    "selecting", lambda key, policy: attached(policy.selector, policy.targets)
)
HOSTS_SELECTING = HOSTS.index("selecting", lambda key, host: host.selector or ())
PEER_POLICIES_SELECTING = PEER_POLICIES.index("selecting", lambda key, policy: policy.selector)
GATEWAYS_SELECTING = GATEWAYS.index("selecting", lambda key, gateway: gateway.selector)
ROUTES_SELECTING = ROUTES.index("selecting", lambda key, routes: _callers(routes))
TRAFFIC_POLICIES_SELECTING = TRAFFIC_POLICIES.index("selecting", lambda key, policy: policy.selector)
ACCESS_POLICIES_SELECTING = ACCESS_POLICIES.index(
    "selecting", lambda key, policy: attached(policy.selector, policy.targets)
)
REQUEST_POLICIES_SELECTING = REQUEST_POLICIES.index(
    "selecting", lambda key, policy: attached(policy.selector, policy.targets)
)
SIDECARS_SELECTING = SIDECARS.index("selecting", lambda key, sidecar: sidecar.selector)
TELEMETRY_SELECTING = TELEMETRY.index("selecting", lambda key, policy: attached(policy.selector, policy.targets))

FILTERING: tuple[Index[Label, Any, Any], ...] = (
    ACCESS_POLICIES_SELECTING,
    REQUEST_POLICIES_SELECTING,
    RATE_POLICIES_SELECTING,
    EXTENSIONS_SELECTING,
)
"""Those on which the filters of a proxy's filter chains may depend."""
SELECTING: tuple[Index[Label, Any, Any], ...] = (
    HOSTS_SELECTING,
    PEER_POLICIES_SELECTING,
    GATEWAYS_SELECTING,
    ROUTES_SELECTING,
    TRAFFIC_POLICIES_SELECTING,
    SIDECARS_SELECTING,
    TELEMETRY_SELECTING,
    PATCHES_SELECTING,
    *FILTERING,
)
"""All of them."""
