"""`fairlead why` on files: what it says, where it points, and how it ends."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fairlead.cli.main import cli
from fairlead.simulate import asked, logline

SHOP = Path(__file__).resolve().parents[2] / "samples" / "shop"
POLICIES = SHOP / "policies"
RATINGS = "http://ratings:9080/ratings/1"


def why(*arguments: object) -> Result:
    files = () if "-f" in arguments else ("-f", SHOP)
    return CliRunner().invoke(cli, ["why", *map(str, (*arguments, *files))])


def data(*arguments: object) -> dict[str, Any]:
    return json.loads(why(*arguments, "-o", "json").stdout)


def test_a_request_that_gets_its_answer() -> None:
    found = why("--from", "web-v1.shop", "--to", "http://reviews:9080/reviews/1")
    assert found.exit_code == 0, found.output
    assert "passes: 200 via_upstream" in found.output
    assert found.output.startswith("client web-v1-0.shop")


def test_a_denial_names_line_and_smallest_change() -> None:
    policy = POLICIES / "authorization.yaml"
    found = why("--from", "web-v1.shop", "--to", RATINGS, "--with", policy)
    assert found.exit_code == 1
    assert "fails: 403 rbac_access_denied_matched_policy[none] at the server's proxy" in found.output
    assert f"AuthorizationPolicy shop/ratings  {policy}:2:1" in found.output
    changes = data("--from", "web-v1.shop", "--to", RATINGS, "--with", policy)["changes"]
    assert changes[0]["action"] == "append"
    assert (changes[0]["field"], changes[0]["line"]) == ("spec.rules[0].from", 12)
    assert why("--from", "reviews-v1.shop", "--to", RATINGS, "--with", policy).exit_code == 0


def test_a_missing_subset_and_a_near_name() -> None:
    found = data("--from", "web-v1", "--to", "http://reviews:9080/", "--with", POLICIES / "header-routing.yaml")
    assert found["verdict"]["flags"] == "NC"
    assert any(one["field"].endswith("destination.subset") and one["action"] == "remove" for one in found["changes"])
    assert any(one["action"] == "create" and one["kind"] == "DestinationRule" for one in found["changes"])


def test_chance_has_an_exit_status_of_its_own(tmp_path: Path) -> None:
    rule = {
        "fault": {"abort": {"httpStatus": 500, "percentage": {"value": 10}}},
        "route": [{"destination": {"host": "ratings"}}],
    }
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "ratings", "namespace": "shop"},
        "spec": {"hosts": ["ratings"], "http": [rule]},
    }
    (tmp_path / "fault.json").write_text(json.dumps(document))
    found = why("--from", "web-v1.shop", "--to", RATINGS, "--with", tmp_path / "fault.json")
    assert found.exit_code == 3
    assert "not decided: 10 % of requests are aborted with status 500" in found.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "wep-v1.shop", "--to", RATINGS), "did you mean 'web-v1.shop'"),
        (("--from", "web-v1.shop", "--to", "ftp://ratings"), "no scheme that is known"),
        (("--from", "plaintext:nowhere", "--to", RATINGS), "not an IP address"),
        (("--to", RATINGS), "--from and --to are needed"),
        (("--from", "web-v1.shop", "--to", RATINGS, "--jwt-claims", "[]"), "not a JSON object"),
        (("--access-log", "what is this"), "not in the mesh's access log format"),
        (("--from", "web-v1.shop", "--to", RATINGS, "-f", "/nowhere"), "no such file"),
        (("--from", "web-v1.shop", "--to", RATINGS, "--with", POLICIES / "malformed.yaml"), "Did you mean 'weight'?"),
    ],
)
def test_wrong_usage_is_explained(arguments: tuple[object, ...], said: str) -> None:
    found = why(*arguments)
    assert found.exit_code == 2, found.output
    assert said in found.output


TEXT = (
    '[2026-11-25T10:00:00.000Z] "GET /ratings/1?x=a HTTP/1.1" 503 UF upstream_reset_before_response_started{x} - '
    '"TLS_error: sad" 0 91 5 - "-" "curl/8.0" "0f1c-11" "ratings:9080" "127.66.0.6:9080" '
    "outbound|9080||ratings.shop.svc.cluster.local 10.0.0.1:5000 10.96.0.9:9080 127.66.0.10:5001 - default"
)


def reviews_of(version: str, directory: Path) -> str:
    """The address of the instance with this version: a route leads nowhere else."""
    route = {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviews", "subset": "one"}}]}]}
    rule = {"host": "reviews", "subsets": [{"name": "one", "labels": {"version": version}}]}
    documents = [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": kind,
            "metadata": {"name": "one", "namespace": "shop"},
            "spec": spec,
        }
        for kind, spec in (("VirtualService", route), ("DestinationRule", rule))
    ]
    file = directory / f"{version}.yaml"
    file.write_text("\n---\n".join(map(json.dumps, documents)))
    found = data("--from", "web-v1.shop", "--to", "http://reviews:9080/", "--with", file)
    return str(found["verdict"]["endpoint"])


def test_lines_of_access_logs(tmp_path: Path) -> None:
    logged = logline.parse(TEXT)
    assert (logged.status, logged.flags, logged.inbound, logged.peer) == (503, "UF", False, "127.66.0.10")
    assert (logged.request.host, logged.request.port, logged.request.path) == ("ratings", 9080, "/ratings/1?x=a")
    assert logged.request_id == "0f1c-11"
    fields = {"response_code": 403, "upstream_cluster": "inbound|9080||", "method": "PUT", "path": "/r"}
    fields |= {
        "downstream_local_address": "10.0.0.2:9080",
        "downstream_remote_address": "10.0.0.1:4",
        "authority": "r:80",
    }
    line = logline.parse(json.dumps(fields))
    assert (line.inbound, line.request.method, line.peer, line.status) == (True, "PUT", "10.0.0.1", 403)
    found = why("--access-log", TEXT, "--from", "web-v1.shop")
    assert found.exit_code == 0, found.output
    assert found.output.startswith("the log says: 503 UF")
    instances = {reviews_of(version, tmp_path) for version in ("v1", "v2", "v3")}
    assert len(instances) == 3
    for one in instances:
        elsewhere = TEXT.replace("127.66.0.6:9080", one).replace("ratings", "reviews")
        followed = data("--access-log", elsewhere, "--from", "web-v1.shop")
        assert followed["verdict"]["endpoint"] == one, "the instance that the log names"


def test_a_request_by_its_id(tmp_path: Path) -> None:
    log = tmp_path / "node" / "shop" / "web-v1-0" / "proxy.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"starting\n{TEXT}\n")
    found = why("--trace", "0f1c-11", "--state", tmp_path)
    assert found.exit_code == 0, found.output
    assert "client web-v1-0.shop" in found.output
    missed = why("--trace", "no-such-id", "--state", tmp_path)
    assert missed.exit_code == 1
    assert "searched: 1 proxy logs below" in missed.output


def test_tokens_and_urls() -> None:
    payload = base64.urlsafe_b64encode(b'{"iss":"me","exp":1}').decode().rstrip("=")
    assert asked.token_claims(f"Bearer a.{payload}.c") == {"iss": "me", "exp": 1}
    made = asked.request_of("https://shop.example/a?b=c", headers=["Host: other", "x-a=1"], method="post")
    assert (made.port, made.tls, made.authority, made.headers, made.method) == (
        443,
        True,
        "other",
        (("x-a", "1"),),
        "POST",
    )
    assert asked.caller_of("internet:10.1.1.1", "edge.shop").name == "edge"
    with pytest.raises(ValueError, match="no port"):
        asked.request_of("tcp://ledger")


KUBERNETES = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {serviceAccountName: web, containers: [{name: web, image: web}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  template:
    metadata: {labels: {app: cart}, annotations: {sidecar.istio.io/inject: "INJECT"}}
    spec: {containers: [{name: cart, image: cart, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: cart, namespace: shop}
spec: {}
"""


@pytest.mark.parametrize(("inject", "over"), [("true", "mesh mTLS"), ("false", "plaintext")])
def test_workloads_of_kubernetes_in_files(tmp_path: Path, inject: str, over: str) -> None:
    (tmp_path / "cluster.yaml").write_text(KUBERNETES.replace("INJECT", inject))
    found = data("--from", "web.shop", "--to", "http://cart/", "-f", tmp_path / "cluster.yaml")
    assert found["verdict"]["outcome"] == "passes", found["verdict"]
    assert found["verdict"]["endpoint"].endswith(":8080")
    assert next(one["met"] for one in found["steps"] if one["stage"] == "upstream tls") == over
