"""RBAC filters: what they match, that real Envoy takes them, and what it does with them."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_pb2
from google.protobuf import json_format

from fairlead.envoy import rbac_match
from fairlead.envoy.rbac import HTTP_RBAC, NETWORK_RBAC, RbacFilter, rbac_filters
from fairlead.ir.security import AccessPolicy, AccessRule, Condition, Operation, Source
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName, Ref

MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ENVOY = Path(sys.executable).parent / "envoy"
ORIGIN = Origin(Ref("security.istio.io", "AuthorizationPolicy", "shop", "p"))


def rule(source: Source | None = None, operation: Operation | None = None, *conditions: Condition) -> AccessRule:
    return AccessRule(ORIGIN, (source,) if source else (), (operation,) if operation else (), conditions)


def policy(action: Any, *rules: AccessRule, name: str = "p", dry_run: bool = False) -> AccessPolicy:
    key = NamespacedName("shop", name)
    return AccessPolicy(key, ORIGIN, (), action, rules, provider="x" if action == "CUSTOM" else "", dry_run=dry_run)


def everything() -> AccessRule:
    """A rule that uses every condition there is."""
    texts = ("exact", "prefix-*", "*-suffix", "*")
    ips = ("10.0.0.1", "10.0.0.0/8", "fd00::/8")
    source = Source(
        *(texts for _ in range(6)),
        service_accounts=("a", "ns/b"),
        not_service_accounts=("c",),
        trust_domains=("td", "td*"),
        not_trust_domains=("*bad",),
        ip_blocks=ips,
        not_ip_blocks=ips,
        remote_ip_blocks=ips,
        not_remote_ip_blocks=ips,
    )
    paths = ("/exact", "/prefix*", "*/suffix", "*", "/a/{*}/b", "/a/{**}")
    operation = Operation(texts, texts, ("80", "81"), ("90",), texts, texts, paths, paths)
    text_keys = (
        "source.namespace",
        "source.principal",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "request.auth.claims[a][b]",
        "request.headers[x-a]",
        "connection.sni",
        "experimental.envoy.filters.a.b[c]",
    )
    conditions = [Condition(key, texts, texts) for key in text_keys]
    conditions += [Condition(key, ips, ips) for key in ("source.ip", "remote.ip", "destination.ip")]
    conditions += [
        Condition("destination.port", ("1",), ("2",)),
        Condition("source.serviceAccount", ("a",), ("b/c",)),
        Condition("experimental.envoy.filters.a[list]", ("[x]",)),
    ]
    return rule(source, operation, *conditions)


ALL = tuple(
    policy(action, *rules, name=f"{action.lower()}{number}", dry_run=dry_run)
    for action in ("ALLOW", "DENY", "AUDIT", "CUSTOM")
    for number, (dry_run, rules) in enumerate([(False, ()), (False, (everything(), rule())), (True, (rule(),))])
)


def bootstrap(filters: tuple[RbacFilter, ...], port: int = 0, log: str = "") -> dict[str, Any]:
    """An Envoy that answers 200 itself, behind the filters."""
    http = [one for one in filters if one.name == HTTP_RBAC]
    tcp = [one for one in filters if one.name == NETWORK_RBAC]
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    manager: dict[str, Any] = {
        "@type": MANAGER,
        "stat_prefix": "test",
        "http_filters": [
            *(_filter(one, http_pb2.RBAC) for one in http),
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
                }
            ]
        },
    }
    if log:
        manager["access_log"] = [
            {
                "name": "file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": log,
                    "log_format": {"text_format_source": {"inline_string": "%RESPONSE_CODE_DETAILS%\n"}},
                },
            }
        ]
    chain = [_filter(one, network_pb2.RBAC) for one in tcp]
    chain.append({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager})
    listener = {
        "name": "test",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": chain}],
    }
    return {"static_resources": {"listeners": [listener]}, "node": {"id": "test", "cluster": "test"}}


def _filter(one: RbacFilter, message: Any) -> dict[str, Any]:
    config = json_format.MessageToDict(message.FromString(one.config))
    return {"name": one.name, "typed_config": {"@type": one.type_url, **config}}


@pytest.mark.parametrize("tcp", [False, True], ids=["http", "tcp"])
def test_envoy_accepts_every_matcher(tcp: bool, tmp_path: Path) -> None:
    filters = rbac_filters(ALL, tcp=tcp, trust_domains=("td1", "td2"))
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(bootstrap(filters)))
    done = subprocess.run(
        [ENVOY, "--mode", "validate", "-c", path, "--log-level", "error"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_order_and_names() -> None:
    filters = rbac_filters(ALL, tcp=False)
    actions = [http_pb2.RBAC.FromString(one.config).rules for one in filters]
    assert [one.position for one in filters] == sorted(one.position for one in filters)
    assert [min(one.policies).split("-rule")[0] for one in actions] == [
        "ns[shop]-policy[audit0]",
        "ns[shop]-policy[deny0]",
        "ns[shop]-policy[allow0]",
    ]


def test_bytes_do_not_depend_on_the_order_of_policies() -> None:
    there, back = rbac_filters(ALL, tcp=False), rbac_filters(ALL[::-1], tcp=False)
    assert [one.config for one in there] == [one.config for one in back]


def test_http_conditions_on_tcp() -> None:
    """ALLOW never matches by them, DENY is applied without them."""
    mixed = rule(None, Operation(methods=("GET",), ports=("80",)))
    allow, deny = (rbac_filters([policy(action, mixed)], tcp=True)[0] for action in ("ALLOW", "DENY"))
    assert network_pb2.RBAC.FromString(allow.config).HasField("rules")
    assert not network_pb2.RBAC.FromString(allow.config).rules.policies
    denied = network_pb2.RBAC.FromString(deny.config).rules.policies["ns[shop]-policy[p]-rule[0]"]
    assert denied.permissions[0].and_rules.rules[0].or_rules.rules[0].destination_port == 80
    assert len(denied.permissions[0].and_rules.rules) == 1


def test_values_cannot_smuggle_in_regular_expressions() -> None:
    account = rbac_match.service_account("a.b/c.*", "ns").safe_regex.regex
    assert account == r"spiffe://.+/ns/a\.b/(.+/|)sa/c\.\*(/.+)?"


def test_trust_domains_of_the_mesh_are_one() -> None:
    ours = ("td", "old")
    both = ("td/ns/a/sa/b", "old/ns/a/sa/b")
    assert rbac_match.in_trust_domains(("cluster.local/ns/a/sa/b",), ours) == both
    assert rbac_match.in_trust_domains(("old/ns/a/sa/b",), ours) == both
    assert rbac_match.in_trust_domains(("other/ns/a/sa/b", "*"), ours) == ("other/ns/a/sa/b", "*")


@pytest.mark.parametrize(
    ("ours", "said", "meant"),
    [
        (("td", "old"), ("old",), ["td", "old"]),
        (("td", "old"), ("td", "old", "other"), ["td", "old", "other"]),
        # Unlike in principals `cluster.local` is a name like any other, and patterns are left alone.
        (("td", "old"), ("cluster.local", "o*"), ["cluster.local", "o*"]),
        ((), ("td",), ["td"]),
    ],
)
def test_a_trust_domain_of_the_mesh_stands_for_all_of_them(
    ours: tuple[str, ...], said: tuple[str, ...], meant: list[str]
) -> None:
    source = Source(trust_domains=said, not_trust_domains=said)
    made = rbac_filters([policy("DENY", rule(source, None))], tcp=False, trust_domains=ours)[0]
    (caller,) = http_pb2.RBAC.FromString(made.config).rules.policies["ns[shop]-policy[p]-rule[0]"].principals
    wanted = [rbac_match.named(rbac_match.trust_domain(one)) for one in meant]
    among, others = caller.and_ids.ids
    assert list(among.or_ids.ids) == wanted
    assert list(others.not_id.or_ids.ids) == wanted


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A running Envoy that lets nobody GET /secret and only `x-user: good*` do anything else."""
    deny = policy("DENY", rule(None, Operation(methods=("GET",), paths=("/secret*",))), name="deny")
    allow = policy("ALLOW", rule(None, None, Condition("request.headers[x-user]", ("good*",))), name="allow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "access.log"
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(bootstrap(rbac_filters([deny, allow], tcp=False), port, str(log))))
    command = [ENVOY, "-c", path, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(lambda: _open(port))
        yield port, log
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait(holds: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the condition did not come to hold"
        time.sleep(0.02)


def _open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_envoy_denies_and_says_which_rule(served: tuple[int, Path]) -> None:
    port, log = served
    calls = [("/", "good-one"), ("/secret/1", "good-one"), ("/", "bad")]
    codes: list[int] = []
    for path, user in calls:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", path, headers={"x-user": user})
        codes.append(connection.getresponse().status)
        connection.close()
    assert codes == [200, 403, 403]
    _wait(lambda: log.exists() and len(log.read_text().splitlines()) >= 3)
    assert log.read_text().splitlines()[:3] == [
        "direct_response",
        "rbac_access_denied_matched_policy[ns[shop]-policy[deny]-rule[0]]",
        "rbac_access_denied_matched_policy[none]",
    ]
