"""Authorization policies to Envoy's RBAC filters, as Istio writes them.

Semantics: istio `pilot/pkg/security/authz` (model, builder, matcher). Each rule of a policy becomes one RBAC policy
named `ns[NAMESPACE]-policy[NAME]-rule[N]`, which Envoy reports when it denies a request. Conditions on the caller
become principals, conditions on the request permissions.

On a TCP chain a condition on HTTP cannot be judged: an ALLOW rule that has one never matches, a DENY or AUDIT rule is
applied without it. So a connection is never let through by a rule that was meant for fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import msgspec
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_pb2

from fairlead.envoy import rbac_match as match
from fairlead.ir.security import AccessPolicy, AccessRule, Condition, Operation, Source
from fairlead.model.diagnostic import Origin

HTTP_RBAC = "envoy.filters.http.rbac"
NETWORK_RBAC = "envoy.filters.network.rbac"
HTTP_TYPE = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
NETWORK_TYPE = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"
TCP_STAT_PREFIX = "tcp."

Permission = rbac_pb2.Permission
Principal = rbac_pb2.Principal
Action = Literal["CUSTOM", "AUDIT", "DENY", "ALLOW"]
_ENVOY_ACTION = {
    "ALLOW": rbac_pb2.RBAC.ALLOW,
    "DENY": rbac_pb2.RBAC.DENY,
    "CUSTOM": rbac_pb2.RBAC.DENY,
    "AUDIT": rbac_pb2.RBAC.LOG,
}


class RbacFilter(msgspec.Struct, frozen=True):
    """One RBAC filter. Filters are to stand in the order of `position`."""

    name: str
    type_url: str
    config: bytes
    position: int
    origins: tuple[Origin, ...]


def rbac_filters(
    policies: Sequence[AccessPolicy], *, tcp: bool, trust_domains: tuple[str, ...] = ()
) -> tuple[RbacFilter, ...]:
    """The filters for the policies that apply to one chain: AUDIT, then DENY, then ALLOW.

    Policies with action CUSTOM are left out: `fairlead.envoy.extauthz` makes their filters, which stand before these.

    `trust_domains` is the mesh's trust domain and its aliases: a principal of one of them (or of `cluster.local`, which
    stands for the mesh's own) matches in all of them, and so does one of them as a source's `trustDomains`. Empty: both
    are taken as written.
    """
    out: list[RbacFilter] = []
    actions: tuple[Action, ...] = ("AUDIT", "DENY", "ALLOW")
    for at, action in enumerate(actions):
        chosen = [one for one in policies if one.action == action]
        if chosen:
            enforced = [one for one in chosen if not one.dry_run]
            shadow = [one for one in chosen if one.dry_run]
            config = _config(
                _rules(enforced, action, "", tcp=tcp, trust_domains=trust_domains) if enforced else None,
                _rules(shadow, action, "", tcp=tcp, trust_domains=trust_domains) if shadow else None,
                tcp=tcp,
                prefix=_dry_run_prefix(action if shadow else "ALLOW"),
            )
            out.append(_filter(config, at, chosen, tcp=tcp))
    return tuple(out)


def custom_prefix(provider: str) -> str:
    """With what the names of the rules begin that ask a provider."""
    return f"istio-ext-authz-{provider}-"


def custom_rules(
    policies: Iterable[AccessPolicy], provider: str, *, tcp: bool, trust_domains: tuple[str, ...] = ()
) -> rbac_pb2.RBAC:
    """Rules that find what a provider is to be asked about."""
    return _rules(policies, "CUSTOM", custom_prefix(provider), tcp=tcp, trust_domains=trust_domains)


def refused_custom(
    policies: Iterable[AccessPolicy], provider: str, *, tcp: bool, trust_domains: tuple[str, ...] = ()
) -> rbac_pb2.RBAC:
    """Rules that deny what a CUSTOM policy would have asked an external provider about, where there is none to ask."""
    named = custom_rules(policies, provider, tcp=tcp, trust_domains=trust_domains)
    out = rbac_pb2.RBAC(action=named.action)
    for name, policy in named.policies.items():
        out.policies[f"{name}-deny-due-to-bad-CUSTOM-action"].CopyFrom(policy)
    return out


def _dry_run_prefix(action: str) -> str:
    return {"ALLOW": "istio_dry_run_allow_", "DENY": "istio_dry_run_deny_"}.get(action, "")


def _config(rules: rbac_pb2.RBAC | None, shadow: rbac_pb2.RBAC | None, *, tcp: bool, prefix: str = "") -> bytes:
    config: http_pb2.RBAC | network_pb2.RBAC
    config = network_pb2.RBAC(stat_prefix=TCP_STAT_PREFIX) if tcp else http_pb2.RBAC()
    if rules is not None:
        config.rules.CopyFrom(rules)
    if shadow is not None:
        config.shadow_rules.CopyFrom(shadow)
    config.shadow_rules_stat_prefix = prefix
    return config.SerializeToString(deterministic=True)


def _filter(config: bytes, position: int, policies: Iterable[AccessPolicy], *, tcp: bool) -> RbacFilter:
    name, type_url = (NETWORK_RBAC, NETWORK_TYPE) if tcp else (HTTP_RBAC, HTTP_TYPE)
    return RbacFilter(name, type_url, config, position, tuple(one.origin for one in policies))


def _rules(
    policies: Iterable[AccessPolicy], action: Action, prefix: str, *, tcp: bool, trust_domains: tuple[str, ...]
) -> rbac_pb2.RBAC:
    out = rbac_pb2.RBAC(action=_ENVOY_ACTION[action])
    build = _Build(action == "ALLOW", tcp, trust_domains)
    for policy in policies:
        name = f"{prefix}ns[{policy.key.namespace}]-policy[{policy.key.name}]-rule"
        for at, rule in enumerate(policy.rules):
            made = build.rule(rule, policy.key.namespace)
            if made is not None:
                out.policies[f"{name}[{at}]"].CopyFrom(made)
        if not policy.rules:
            never = rbac_pb2.Policy(
                permissions=[Permission(not_rule=Permission(any=True))],
                principals=[Principal(not_id=Principal(any=True))],
            )
            out.policies[f"{name}[0]"].CopyFrom(never)
    return out


class _HttpOnly(Exception):
    """A condition on HTTP met a TCP chain."""


class _Build:
    """Builds the RBAC policy of one rule after another, for one action and kind of chain."""

    def __init__(self, allow: bool, tcp: bool, trust_domains: tuple[str, ...]) -> None:
        self._allow = allow
        self._tcp = tcp
        self._trust_domains = trust_domains

    def rule(self, rule: AccessRule, namespace: str) -> rbac_pb2.Policy | None:
        """The policy, or None if the rule can never match on this chain."""
        try:
            asked = [list(self._condition(one, namespace)) for one in rule.conditions]
            when_caller = [one for found in asked for one in found if isinstance(one, Principal)]
            when_request = [one for found in asked for one in found if isinstance(one, Permission)]
            callers = [[*self._source(one, namespace), *when_caller] for one in rule.sources] or [when_caller]
            requests = [[*self._operation(one), *when_request] for one in rule.operations] or [when_request]
        except _HttpOnly:
            return None
        return rbac_pb2.Policy(
            permissions=[_all_permissions(one) for one in requests],
            principals=[_all_principals(one) for one in callers],
        )

    def _source(self, source: Source, namespace: str) -> Iterator[Principal]:
        def account(value: str) -> Principal:
            return match.named(match.service_account(value, namespace))

        yield from self._callers(account, source.service_accounts, source.not_service_accounts)
        yield from self._callers(_trust_domain, *map(self._domains, (source.trust_domains, source.not_trust_domains)))
        yield from self._callers(_principal, *map(self._aliases, (source.principals, source.not_principals)))
        yield from self._claimed(match.request_principals, source.request_principals, source.not_request_principals)
        yield from self._callers(_namespace, source.namespaces, source.not_namespaces)
        yield from self._callers(_remote_ip, source.remote_ip_blocks, source.not_remote_ip_blocks)
        yield from self._callers(_source_ip, source.ip_blocks, source.not_ip_blocks)

    def _operation(self, operation: Operation) -> Iterator[Permission]:
        yield from self._requests(match.host, operation.hosts, operation.not_hosts, http=True)
        yield from self._requests(match.method, operation.methods, operation.not_methods, http=True)
        yield from self._requests(match.path, operation.paths, operation.not_paths, http=True)
        yield from self._requests(_port, operation.ports, operation.not_ports)

    def _condition(self, condition: Condition, namespace: str) -> Iterator[Principal | Permission]:
        key, values, others = condition.key, condition.values, condition.not_values
        simple_request = {"destination.ip": _destination_ip, "destination.port": _port, "connection.sni": _sni}
        simple_caller = {"source.ip": _source_ip, "remote.ip": _remote_ip, "source.namespace": _namespace}
        claims = {"request.auth.audiences": ("aud",), "request.auth.presenter": ("azp",)}
        if key in simple_request:
            yield from self._requests(simple_request[key], values, others)
        elif key in simple_caller:
            yield from self._callers(simple_caller[key], values, others)
        elif key == "source.principal":
            yield from self._callers(_principal, self._aliases(values), self._aliases(others))
        elif key == "source.serviceAccount":
            yield from self._callers(lambda one: match.named(match.service_account(one, namespace)), values, others)
        elif key == "request.auth.principal":
            yield from self._claimed(match.request_principals, values, others)
        elif key in claims:
            yield from self._claimed(lambda many: match.claim(claims[key], many), values, others)
        elif key.startswith("request.auth.claims"):
            path = match.brackets(key.removeprefix("request.auth.claims"))
            yield from self._claimed(lambda many: match.claim(path, many), values, others)
        elif key.startswith("request.headers"):
            name = key.removeprefix("request.headers").strip("[]")
            yield from self._callers(lambda one: Principal(header=match.header(name, one)), values, others, http=True)
        elif key.startswith("experimental.envoy.filters."):
            yield from self._filter_metadata(key, values, others)

    def _filter_metadata(self, key: str, values: tuple[str, ...], others: tuple[str, ...]) -> Iterator[Permission]:
        name, _, rest = key.removeprefix("experimental.").partition("[")
        if values:
            yield Permission(metadata=match.metadata(name, (rest.removesuffix("]"),), match.listed_values(values)))
        if others:
            wrong = match.metadata(name, (rest.removesuffix("]"),), match.listed_values(others))
            yield Permission(not_rule=Permission(metadata=wrong))

    def _judge(self, *, http: bool) -> bool:
        """Whether a condition can be judged on this chain; raises where that makes the whole rule void."""
        if not (http and self._tcp):
            return True
        if self._allow:
            raise _HttpOnly
        return False

    def _callers(
        self, make: Callable[[str], Principal], values: tuple[str, ...], others: tuple[str, ...], *, http: bool = False
    ) -> Iterator[Principal]:
        if (values or others) and not self._judge(http=http):
            return
        if values:
            yield Principal(or_ids=Principal.Set(ids=[make(one) for one in values]))
        if others:
            any_of = Principal(or_ids=Principal.Set(ids=[make(one) for one in others]))
            yield Principal(not_id=any_of)

    def _claimed(
        self, make: Callable[[tuple[str, ...]], Principal], values: tuple[str, ...], others: tuple[str, ...]
    ) -> Iterator[Principal]:
        """Conditions on a validated token, which one matcher judges for all values."""
        if (values or others) and not self._judge(http=True):
            return
        if values:
            yield make(values)
        if others:
            yield Principal(not_id=make(others))

    def _requests(
        self, make: Callable[[str], Permission], values: tuple[str, ...], others: tuple[str, ...], *, http: bool = False
    ) -> Iterator[Permission]:
        if (values or others) and not self._judge(http=http):
            return
        if values:
            yield Permission(or_rules=Permission.Set(rules=[make(one) for one in values]))
        if others:
            any_of = Permission(or_rules=Permission.Set(rules=[make(one) for one in others]))
            yield Permission(not_rule=any_of)

    def _aliases(self, principals: tuple[str, ...]) -> tuple[str, ...]:
        return match.in_trust_domains(principals, self._trust_domains)

    def _domains(self, said: tuple[str, ...]) -> tuple[str, ...]:
        """Trust domains; one of the mesh's own stands for all of these."""
        found = [self._trust_domains if one in self._trust_domains else (one,) for one in said]
        return tuple(dict.fromkeys(one for each in found for one in each))


def _all_permissions(of: list[Permission]) -> Permission:
    return Permission(and_rules=Permission.Set(rules=of or [Permission(any=True)]))


def _all_principals(of: list[Principal]) -> Principal:
    return Principal(and_ids=Principal.Set(ids=of or [Principal(any=True)]))


def _principal(value: str) -> Principal:
    return match.named(match.string(value, "spiffe://"))


def _namespace(value: str) -> Principal:
    return match.named(match.regex(f".*/ns/{match.glob(value, '.*')}/.*"))


def _trust_domain(value: str) -> Principal:
    return match.named(match.trust_domain(value))


def _source_ip(value: str) -> Principal:
    return Principal(direct_remote_ip=match.cidr(value))


def _remote_ip(value: str) -> Principal:
    return Principal(remote_ip=match.cidr(value))


def _destination_ip(value: str) -> Permission:
    return Permission(destination_ip=match.cidr(value))


def _port(value: str) -> Permission:
    return Permission(destination_port=int(value))


def _sni(value: str) -> Permission:
    return Permission(requested_server_name=match.string(value))
