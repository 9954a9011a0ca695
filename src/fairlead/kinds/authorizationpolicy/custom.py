"""Action CUSTOM: which authorizer is asked, and what if there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from fairlead.envoy.extauthz import custom_filters, refusing_filter
from fairlead.inc import Reader
from fairlead.ir.authz import Authorizer
from fairlead.ir.filters import Filter
from fairlead.ir.host import HOSTS_BY_NAME
from fairlead.ir.mesh import Mesh
from fairlead.ir.security import AccessPolicy
from fairlead.model.diagnostic import Diagnostic, Severity

UNUSABLE_CODE = "FL0402"
"""A policy's authorizer cannot be asked, so what the policy matches is denied."""


def asking_filters(
    r: Reader, policies: Sequence[AccessPolicy], mesh: Mesh, *, tcp: bool, trust_domains: tuple[str, ...]
) -> Iterator[Filter]:
    """The filters for the CUSTOM policies of one chain.

    A workload has one authorizer: with several, and where the one cannot be asked, what the policies match is denied,
    and that is reported for each of them.
    """
    providers = sorted({one.provider for one in policies})
    for at, provider in enumerate(providers):
        chosen = [one for one in policies if one.provider == provider]
        wrong, authorizer = _authorizer(r, mesh, provider)
        if len(providers) > 1:
            wrong = f"this workload's policies name several providers ({', '.join(providers)}), and one is possible"
        if authorizer is not None and not wrong:
            yield from custom_filters(chosen, authorizer, tcp=tcp, trust_domains=trust_domains)
            continue
        for policy in chosen:
            r.report(_unusable(policy, wrong))
        yield refusing_filter(chosen, provider, at, tcp=tcp, trust_domains=trust_domains)


def _authorizer(r: Reader, mesh: Mesh, name: str) -> tuple[str, Authorizer | None]:
    """The authorizer of a name and its host as clients know it, or why it cannot be asked."""
    found = next((one for one in mesh.authorizers if one.name == name), None)
    if found is None:
        known = ", ".join(one.name for one in mesh.authorizers) or "none"
        return f"MeshConfig's extensionProviders has no authorizer {name!r} (there: {known})", None
    if found.problem:
        return f"provider {name!r} of MeshConfig is wrong: {found.problem}", None
    hosts = [host for at, host in r.rows(HOSTS_BY_NAME, found.hostname) if found.namespace in ("", at.namespace)]
    if not hosts:
        where = f" in namespace {found.namespace}" if found.namespace else ""
        return f"provider {name!r}: there is no host {found.hostname!r}{where}", None
    if len(hosts) > 1:
        several = ", ".join(sorted(one.key.namespace for one in hosts))
        return f"provider {name!r}: host {found.hostname!r} is in several namespaces ({several}); name one", None
    if hosts[0].port(found.port) is None:
        return f"provider {name!r}: host {found.hostname!r} has no port {found.port}", None
    return "", replace(found, namespace=hosts[0].key.namespace)


def _unusable(policy: AccessPolicy, wrong: str) -> Diagnostic:
    said = f"nobody can be asked, so what the policy matches is denied: {wrong}"
    return Diagnostic(UNUSABLE_CODE, Severity.ERROR, said, policy.origin, "Mend the provider, or name another.")
