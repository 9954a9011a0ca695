"""Questions that are answered and not stored: who am I, what may I do, give me a token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

from fairlead.apiserver.auth import Action, Authorize, User, permitted
from fairlead.apiserver.refusal import Refusal, bad_request

Json = dict[str, Any]

MIN_TOKEN_SECONDS = 600
DEFAULT_TOKEN_SECONDS = 3600
MAX_TOKEN_SECONDS = 1 << 32


class Token(msgspec.Struct, frozen=True):
    """A token and when it ends (RFC 3339)."""

    value: str
    expires: str


TokenIssuer = Callable[[str, str, tuple[str, ...], int], Token]
"""(namespace, service account, audiences, seconds) -> a token."""


def review(resource: str, body: Json, user: User, authorize: Authorize) -> Json | None:
    """The answer to a review, or None where there is no such resource."""
    if resource == "selfsubjectreviews":
        return _who(user)
    if resource == "selfsubjectaccessreviews":
        return _access(body, user, authorize)
    if resource == "selfsubjectrulesreviews":
        return _rules(body, user)
    return None


def _who(user: User) -> Json:
    info: Json = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": None},
        "status": {"userInfo": info},
    }


def _spec(body: Json) -> Json:
    spec: object = body.get("spec") or {}
    if not isinstance(spec, dict):
        raise bad_request("spec is not an object")
    return cast("Json", spec)


def _access(body: Json, user: User, authorize: Authorize) -> Json:
    spec = _spec(body)
    asked = spec.get("resourceAttributes")
    other = spec.get("nonResourceAttributes")
    if isinstance(asked, dict):
        wanted = {key: str(value) for key, value in cast("Json", asked).items()}
        below = f"/{wanted['subresource']}" if wanted.get("subresource") else ""
        action = Action(
            wanted.get("verb", ""),
            wanted.get("group", ""),
            wanted.get("resource", "") + below,
            wanted.get("namespace", ""),
            wanted.get("name", ""),
        )
    elif isinstance(other, dict):
        path = cast("Json", other)
        action = Action(str(path.get("verb", "")), resource=str(path.get("path", "")))
    else:
        raise bad_request("spec needs resourceAttributes or nonResourceAttributes")
    allowed = permitted(user, action, authorize)
    reason = "" if allowed else f'User "{user.name}" {action}'
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {"creationTimestamp": None},
        "spec": spec,
        "status": {"allowed": allowed, "reason": reason},
    }


def _rules(body: Json, user: User) -> Json:
    rule: Json = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    address: Json = {"verbs": ["*"], "nonResourceURLs": ["*"]}
    return {
        "kind": "SelfSubjectRulesReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {"creationTimestamp": None},
        "spec": _spec(body),
        # What others may do is a function, not a list of rules: `incomplete` says that there may be more.
        "status": {
            "resourceRules": [rule] if user.is_admin else [],
            "nonResourceRules": [address] if user.is_admin else [],
            "incomplete": not user.is_admin,
        },
    }


def token(body: Json, namespace: str, name: str, issue: TokenIssuer | None) -> Json:
    """The answer to a TokenRequest for a ServiceAccount that exists."""
    if issue is None:
        raise Refusal(404, "this server issues no tokens", reason="NotFound")
    spec = _spec(body)
    seconds = spec.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS
    audiences: object = spec.get("audiences") or []
    if not isinstance(seconds, int) or not MIN_TOKEN_SECONDS <= seconds <= MAX_TOKEN_SECONDS:
        said = f"spec.expirationSeconds: must be between {MIN_TOKEN_SECONDS} and {MAX_TOKEN_SECONDS}"
        raise Refusal(422, f'TokenRequest.authentication.k8s.io "{name}" is invalid: {said}')
    if not isinstance(audiences, list) or not all(isinstance(one, str) for one in cast("list[object]", audiences)):
        raise bad_request("spec.audiences is not a list of strings")
    made = issue(namespace, name, tuple(cast("list[str]", audiences)), seconds)
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": None},
        "spec": {**spec, "expirationSeconds": seconds, "audiences": audiences},
        "status": {"token": made.value, "expirationTimestamp": made.expires},
    }
