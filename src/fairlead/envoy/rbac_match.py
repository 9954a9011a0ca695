"""What authorization policies compare, as Envoy matchers (istio `pilot/pkg/security/authz/matcher`).

Values are exact, `prefix*`, `*suffix` or `*` (anything that is present).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from envoy.config.core.v3 import address_pb2, extension_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2
from envoy.type.matcher.v3 import metadata_pb2, path_pb2, regex_pb2, string_pb2, value_pb2
from google.protobuf import wrappers_pb2

JWT_FILTER = "envoy.filters.http.jwt_authn"
SPIFFE = "spiffe://"
LOCAL = "cluster.local"
"""The trust domain that in policies stands for the mesh's own."""
_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$])")
_TEMPLATE = re.compile(r"\{(\*\*?)\}")


def quote(text: str) -> str:
    """`text` as a regular expression (RE2) that matches just it."""
    return _SPECIAL.sub(r"\\\1", text)


def glob(pattern: str, star: str) -> str:
    """A regular expression for a pattern in which `*` stands for `star`."""
    return star.join(quote(part) for part in pattern.split("*"))


def regex(expression: str) -> string_pb2.StringMatcher:
    """The whole string matches."""
    return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=expression))


def string(value: str, before: str = "", *, ignore_case: bool = False) -> string_pb2.StringMatcher:
    """`before` followed by what `value` matches; a lone `*` matches any string that is not empty."""
    if value == "*":
        return regex(".+")
    if value.startswith("*"):
        if before:
            return regex(f"{before}.*{quote(value[1:])}")
        return string_pb2.StringMatcher(suffix=value[1:], ignore_case=ignore_case)
    if value.endswith("*"):
        return string_pb2.StringMatcher(prefix=before + value[:-1], ignore_case=ignore_case)
    return string_pb2.StringMatcher(exact=before + value, ignore_case=ignore_case)


def header(name: str, value: str, *, ignore_case: bool = False) -> route_pb2.HeaderMatcher:
    """A request header; `*` asks only that it is present."""
    if value == "*":
        return route_pb2.HeaderMatcher(name=name, present_match=True)
    return route_pb2.HeaderMatcher(name=name, string_match=string(value, ignore_case=ignore_case))


def host(value: str) -> rbac_pb2.Permission:
    """The host that the request names, in any case."""
    return rbac_pb2.Permission(header=header(":authority", value, ignore_case=True))


def method(value: str) -> rbac_pb2.Permission:
    """The request's method."""
    return rbac_pb2.Permission(header=header(":method", value))


def path(value: str) -> rbac_pb2.Permission:
    """The request's path without its query; `{*}` stands for one segment of it, `{**}` for any number."""
    if _TEMPLATE.search(value):
        template = uri_template_match_pb2.UriTemplateMatchConfig(path_template=_TEMPLATE.sub(r"\1", value))
        extension = extension_pb2.TypedExtensionConfig(name="uri-template")
        extension.typed_config.type_url = f"type.googleapis.com/{template.DESCRIPTOR.full_name}"
        extension.typed_config.value = template.SerializeToString(deterministic=True)
        return rbac_pb2.Permission(uri_template=extension)
    return rbac_pb2.Permission(url_path=path_pb2.PathMatcher(path=string(value)))


def cidr(text: str) -> address_pb2.CidrRange:
    """An address or a network."""
    address, _, _ = text.partition("/")
    length = ip_network(text, strict=False).prefixlen
    return address_pb2.CidrRange(address_prefix=address, prefix_len=wrappers_pb2.UInt32Value(value=length))


def named(name: string_pb2.StringMatcher) -> rbac_pb2.Principal:
    """A caller whose certificate carries this URI."""
    return rbac_pb2.Principal(authenticated=rbac_pb2.Principal.Authenticated(principal_name=name))


def service_account(value: str, namespace: str) -> string_pb2.StringMatcher:
    """`NAMESPACE/ACCOUNT`, or `ACCOUNT` in `namespace`, in any trust domain."""
    first, slash, rest = value.partition("/")
    where, account = (first, rest) if slash else (namespace, value)
    return regex(f"{SPIFFE}.+/ns/{quote(where)}/(.+/|)sa/{quote(account)}(/.+)?")


def trust_domain(value: str) -> string_pb2.StringMatcher:
    """Any identity of a trust domain."""
    if "*" in value:
        return regex(f"{SPIFFE}{glob(value, '[^/]*')}/.*")
    return string_pb2.StringMatcher(prefix=f"{SPIFFE}{value}/")


def metadata(name: str, keys: Iterable[str], value: value_pb2.ValueMatcher) -> metadata_pb2.MetadataMatcher:
    """A value that an earlier filter left in the dynamic metadata."""
    segments = [metadata_pb2.MetadataMatcher.PathSegment(key=key) for key in keys]
    return metadata_pb2.MetadataMatcher(filter=name, path=segments, value=value)


def brackets(text: str) -> tuple[str, ...]:
    """`[a][b]` as ("a", "b")."""
    return tuple(text.removeprefix("[").removesuffix("]").split("]["))


def claim(keys: tuple[str, ...], values: tuple[str, ...]) -> rbac_pb2.Principal:
    """A claim of a validated token that is one of the values, or a list that holds one of them."""
    one = _any_value([value_pb2.ValueMatcher(string_match=string(value)) for value in values])
    inside = value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=one))
    return rbac_pb2.Principal(metadata=metadata(JWT_FILTER, ("payload", *keys), _any_value([inside, one])))


def listed_values(values: tuple[str, ...]) -> value_pb2.ValueMatcher:
    """Values of filter metadata; `[v]` asks for a list that holds v."""
    return _any_value(list(_listed(values)))


def request_principals(values: tuple[str, ...]) -> rbac_pb2.Principal:
    """`ISSUER/SUBJECT` of a validated token."""
    found = [_issued(value) for value in values]
    return found[0] if len(found) == 1 else rbac_pb2.Principal(or_ids=rbac_pb2.Principal.Set(ids=found))


def in_trust_domains(principals: tuple[str, ...], trust_domains: tuple[str, ...]) -> tuple[str, ...]:
    """The principals of the mesh, once for each of its trust domains; those of other meshes as they are."""
    out: dict[str, None] = {}
    for principal in principals:
        parts = principal.split("/")
        domain = parts[0]
        known = domain == LOCAL or any(_overlaps(domain, one) for one in trust_domains)
        if len(parts) != 5 or domain == "*" or not known or not trust_domains:
            out[principal] = None
            continue
        for one in trust_domains:
            covered = domain.startswith("*") and one.endswith(domain[1:])
            out[principal if covered else "/".join((one, *parts[1:]))] = None
    return tuple(out)


def _overlaps(pattern: str, domain: str) -> bool:
    if pattern.startswith("*"):
        return domain.endswith(pattern[1:])
    return domain.startswith(pattern[:-1]) if pattern.endswith("*") else pattern == domain


def _any_value(of: list[value_pb2.ValueMatcher]) -> value_pb2.ValueMatcher:
    if len(of) == 1:
        return of[0]
    return value_pb2.ValueMatcher(or_match=value_pb2.OrMatcher(value_matchers=of))


def _listed(values: tuple[str, ...]) -> Iterator[value_pb2.ValueMatcher]:
    for value in values:
        if value.startswith("[") and value.endswith("]"):
            one = value_pb2.ValueMatcher(string_match=string(value.strip("[]")))
            yield value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=one))
        else:
            yield value_pb2.ValueMatcher(string_match=string(value))


def _issued(value: str) -> rbac_pb2.Principal:
    """Issuers are URLs, so the subject is what follows the last slash."""
    issuer, slash, subject = value.rpartition("/")
    anything = regex(".+")
    if value == "*":
        by, of = anything, anything
    elif not slash and value.startswith("*"):
        by, of = anything, string_pb2.StringMatcher(suffix=value[1:])
    elif not slash and value.endswith("*"):
        by, of = string_pb2.StringMatcher(prefix=value[:-1]), anything
    elif not slash:
        by, of = string_pb2.StringMatcher(exact=value), string_pb2.StringMatcher(exact="")
    elif value.startswith("*"):
        by, of = string(issuer), string_pb2.StringMatcher(exact=subject)
    elif value.endswith("*"):
        by, of = string_pb2.StringMatcher(exact=issuer), string(subject)
    else:
        by, of = string_pb2.StringMatcher(exact=issuer), string_pb2.StringMatcher(exact=subject)
    parts = (("iss", by), ("sub", of))
    both = [
        rbac_pb2.Principal(
            metadata=metadata(JWT_FILTER, ("payload", key), value_pb2.ValueMatcher(string_match=matcher))
        )
        for key, matcher in parts
    ]
    return rbac_pb2.Principal(and_ids=rbac_pb2.Principal.Set(ids=both))
