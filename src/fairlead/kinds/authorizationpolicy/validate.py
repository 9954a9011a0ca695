"""Istio's validation of AuthorizationPolicy, and what this mesh does not do with one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fairlead.ir.kind import DRY_RUN
from fairlead.kinds.authorizationpolicy.conditions import attribute_problems
from fairlead.kinds.authorizationpolicy.lower import FALSE, TRUE
from fairlead.kinds.authorizationpolicy.spec import AuthorizationPolicy, Operation, Rule, Source
from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.object import Object
from fairlead.model.path import METADATA, SPEC, FieldPath
from fairlead.model.syntax import is_ip_or_cidr
from fairlead.model.target import selector_problems, target_problems, unserved_targets

_RULES = SPEC / "rules"
_SOURCE = dict(zip(Source.__struct_fields__, Source.__struct_encode_fields__, strict=True))
_ASKED = dict(zip(Operation.__struct_fields__, Operation.__struct_encode_fields__, strict=True))
_IPS = ("ip_blocks", "not_ip_blocks", "remote_ip_blocks", "not_remote_ip_blocks")
_NOT_CUSTOM = tuple(
    f"{no}{one}"
    for one in ("principals", "request_principals", "namespaces", "service_accounts", "trust_domains")
    for no in ("", "not_")
)
_SEGMENT = re.compile(r"[A-Za-z0-9\-._~%!$&'()+,;=:@]+\Z")
_MAX_ACCOUNT = 320


def validate(obj: Object[AuthorizationPolicy]) -> Iterator[Problem]:
    """Target, action, then each rule; warnings for what has no effect or more effect than it seems."""
    spec = obj.spec
    yield from target_problems(spec.selector, spec.target_ref, spec.target_refs)
    yield from selector_problems(spec.selector)
    yield from _dry_run(obj.meta.annotations, spec.action)
    yield from _action(spec)
    for at, rule in enumerate(spec.rules or ()):
        yield from _rule(rule, _RULES / at, spec.action)
    yield from unserved_targets(spec.target_ref, spec.target_refs)


def _dry_run(annotations: dict[str, str], action: str) -> Iterator[Problem]:
    value = annotations.get(DRY_RUN)
    if action in ("CUSTOM", "AUDIT") and value is not None:
        said = f"a policy with action {action} cannot be tried, only ALLOW and DENY"
        yield Problem(METADATA.child("annotations", DRY_RUN), said, remedy="Remove the annotation.")
    if value is not None and value not in TRUE | FALSE:
        yield Problem(METADATA.child("annotations", DRY_RUN), f"{value!r} is neither true nor false")


def _action(spec: AuthorizationPolicy) -> Iterator[Problem]:
    if spec.action in ("CUSTOM", "DENY") and spec.rules is None:
        remedy = "Add an empty rule {} to match every request."
        said = f"{spec.action} action without rules is meaningless: it never matches"
        yield Problem(_RULES, said, remedy=remedy, reason="FieldValueRequired")
    if spec.action == "CUSTOM" and spec.rules is not None and (spec.provider is None or not spec.provider.name):
        remedy = "Name an authorizer of MeshConfig's extensionProviders."
        path = SPEC.child("provider", "name")
        yield Problem(path, "provider.name must not be empty", remedy=remedy, reason="FieldValueRequired")
    if spec.action != "CUSTOM" and spec.provider is not None:
        said = f"provider is not possible with action {spec.action}"
        yield Problem(SPEC / "provider", said, remedy="Use action: CUSTOM.", reason="FieldValueForbidden")


def _rule(rule: Rule, path: FieldPath, action: str) -> Iterator[Problem]:
    if rule.callers is not None and not rule.callers:
        yield Problem(path / "from", "must not be empty", remedy="Remove from to match every caller.")
    if rule.to is not None and not rule.to:
        yield Problem(path / "to", "must not be empty", remedy="Remove to to match every request.")
    for at, one in enumerate(rule.callers or ()):
        where = path.child("from", at, "source")
        if one.source is None:
            yield Problem(where, "required", code="FL0004", reason="FieldValueRequired")
        else:
            yield from _source(one.source, where, action)
    for at, one in enumerate(rule.to or ()):
        where = path.child("to", at, "operation")
        if one.operation is None:
            yield Problem(where, "required", code="FL0004", reason="FieldValueRequired")
        else:
            yield from _operation(one.operation, where)
    for at, condition in enumerate(rule.when):
        yield from attribute_problems(condition, path.child("when", at), action)
    if action == "DENY":
        yield from _wide_denial(rule, path)


def _source(source: Source, path: FieldPath, action: str) -> Iterator[Problem]:
    if not any(getattr(source, name) for name in _SOURCE):
        yield Problem(path, "must not be empty", remedy="Remove it to match every caller.")
    by_account = source.service_accounts or source.not_service_accounts
    by_name = source.principals or source.not_principals or source.namespaces or source.not_namespaces
    if by_account and by_name:
        said = "Cannot set serviceAccounts with namespaces or principals"
        where = path / ("serviceAccounts" if source.service_accounts else "notServiceAccounts")
        yield Problem(where, said, remedy="Use one of them.", reason="FieldValueForbidden")
    for name, field in _SOURCE.items():
        values: tuple[str, ...] = getattr(source, name)
        if values and action == "CUSTOM" and name in _NOT_CUSTOM:
            said = f"{field} is currently not supported with CUSTOM action"
            yield Problem(path / field, said, reason="FieldValueForbidden")
        for at, value in enumerate(values):
            if not value:
                yield Problem(path.child(field, at), "must not be empty")
            elif name in _IPS and not is_ip_or_cidr(value):
                yield Problem(path.child(field, at), f"{value!r} is neither an IP address nor a network")
            elif name.endswith("service_accounts"):
                yield from _account(value, path.child(field, at))


def _account(value: str, path: FieldPath) -> Iterator[Problem]:
    if "*" in value or value.count("/") > 1 or not all(value.split("/")) or len(value) > _MAX_ACCOUNT:
        remedy = "Use NAMESPACE/ACCOUNT, or ACCOUNT of the policy's namespace, without wildcards."
        yield Problem(path, f"{value!r} is not a service account", remedy=remedy)


def _operation(operation: Operation, path: FieldPath) -> Iterator[Problem]:
    if not any(getattr(operation, name) for name in _ASKED):
        yield Problem(path, "must not be empty", remedy="Remove it to match every request.")
    for name, field in _ASKED.items():
        values: tuple[str, ...] = getattr(operation, name)
        for at, value in enumerate(values):
            where = path.child(field, at)
            if not value:
                yield Problem(where, "must not be empty")
            elif name.endswith("ports"):
                if not is_port(value):
                    yield Problem(where, f"{value!r} is not a port", remedy="A port must be between 1-65535.")
            elif name.endswith("paths"):
                yield from _template(value, where)


def is_port(text: str) -> bool:
    """Whether the text is a port number."""
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535


def _template(value: str, path: FieldPath) -> Iterator[Problem]:
    """Paths with {*} or {**}: whole segments, nothing but plain segments beside them, {**} once and near the end."""
    if "{" not in value and "}" not in value:
        return
    wild = False
    for segment in value.strip("/").split("/"):
        if segment in ("{*}", "{**}"):
            if wild:
                yield Problem(path, f"nothing but plain segments may follow {{**}} in {value!r}")
                return
            wild = segment == "{**}"
        elif not _SEGMENT.match(segment):
            remedy = "{*} and {**} stand for whole segments, as in /users/{*}/profile; '*' cannot stand beside them."
            yield Problem(path, f"{value!r} is not a path template: {segment!r}", remedy=remedy)
            return


def _wide_denial(rule: Rule, path: FieldPath) -> Iterator[Problem]:
    """On TCP ports a DENY rule is applied without its HTTP conditions, so such a rule denies everything there."""
    tcp_fields = tuple(name for name in _SOURCE if "request" not in name)
    sources = [one.source for one in rule.callers or () if one.source is not None]
    operations = [one.operation for one in rule.to or () if one.operation is not None]
    by_caller = any(getattr(source, name) for source in sources for name in tcp_fields)
    by_port = any(one.ports or one.not_ports for one in operations)
    if (sources and not operations and not by_caller) or (operations and not by_port):
        said = "this rule will deny all traffic to TCP ports under its scope: it has only HTTP conditions"
        yield Problem(path, said, Severity.WARNING, "Name the ports in to.operation.ports.", "FL0101")
