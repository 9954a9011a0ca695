"""The REST API as HTTP clients see it."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from running_api import READER, Running

from fairlead.apiserver.protobuf import MAGIC, ProtobufError, decode

ROUTES = "/apis/mesh.example.dev/v1/namespaces/default/testroutes"
BETA = "/apis/mesh.example.dev/v1beta1/namespaces/default/testroutes"
MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def route(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "mesh.example.dev/v1",
        "kind": "TestRoute",
        "metadata": {"name": name},
        "spec": {"hosts": ["a.example"], **spec},
    }


def config(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"n": name}}, "data": data}


def test_who_may_come_in(api: Running) -> None:
    for path in ("/version", "/healthz", "/readyz", "/livez"):
        assert api.raw("GET", path, token="")[0] == 200
    for token in ("", "wrong"):
        code, status = api.call("GET", MAPS, token=token)
        assert (code, status["kind"], status["reason"]) == (401, "Status", "Unauthorized")
    assert api.call("GET", MAPS, token=READER)[0] == 200
    code, status = api.call("POST", MAPS, config("x"), token=READER)
    assert (code, status["reason"]) == (403, "Forbidden")
    assert 'User "reader" cannot create resource "configmaps"' in status["message"]
    assert api.call("GET", "/api/v1/secrets", token=READER)[0] == 403


def test_there_are_namespaces_from_the_start(api: Running) -> None:
    names = [one["metadata"]["name"] for one in api.call("GET", "/api/v1/namespaces")[1]["items"]]
    assert names == ["default", "istio-system"]
    for name in names:
        assert api.call("GET", f"/api/v1/namespaces/{name}/serviceaccounts/default")[0] == 200
    before = api.call("GET", "/api/v1/namespaces/default/serviceaccounts/default")[1]["metadata"]["uid"]
    assert api.call("DELETE", "/api/v1/namespaces/default/serviceaccounts/default")[0] == 200
    after = api.call("GET", "/api/v1/namespaces/default/serviceaccounts/default")[1]["metadata"]["uid"]
    assert before != after


def test_every_problem_of_an_object_is_a_cause(api: Running) -> None:
    wrong = route(wieght=5, ports=[{"number": "x"}], target=[])
    code, status = api.call("POST", ROUTES, wrong)
    assert (code, status["reason"], status["details"]["kind"], status["details"]["name"]) == (
        422,
        "Invalid",
        "TestRoute",
        "web",
    )
    causes = {one["field"]: one for one in status["details"]["causes"]}
    assert set(causes) == {"spec.wieght", "spec.ports[0].number", "spec.target"}
    assert causes["spec.wieght"]["message"] == "unknown field 'wieght'. Did you mean 'weight'?"
    assert causes["spec.wieght"]["reason"] == "FieldValueUnknown"
    assert api.call("POST", f"{ROUTES}?fieldValidation=Ignore", wrong)[0] == 422
    code, status = api.call("POST", ROUTES, route(address="taken"))
    assert (code, status["details"]["causes"][0]["field"]) == (422, "spec.address")


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "code"),
    [
        ("POST", ROUTES, b"{", "application/json", 400),
        ("POST", ROUTES, b'{"kind": "TestRoute", "kind": "TestRoute"}', "application/json", 400),
        ("POST", ROUTES, b"[" * 100_000, "application/json", 400),
        ("POST", ROUTES, b'{"metadata": {"name": "x"}, "spec": {"weight": NaN}}', "application/json", 400),
        ("POST", ROUTES, b"\xff\xfe", "application/json", 400),
        ("POST", ROUTES, b"a: 1\na: 2\n", "application/yaml", 400),
        ("POST", ROUTES, b"hello", "text/plain", 415),
        ("POST", ROUTES, b"not it", "application/vnd.kubernetes.protobuf", 400),
        ("POST", ROUTES, b"[]", "application/json", 400),
        ("POST", ROUTES, b'{"kind": "Other"}', "application/json", 400),
        ("POST", ROUTES, b'{"metadata": []}', "application/json", 422),
        ("POST", ROUTES, b'{"metadata": {"name": "UPPER"}, "spec": {"hosts": ["a"]}}', "application/json", 422),
        ("POST", ROUTES, b'{"metadata": {"name": "x", "namespace": "y"}}', "application/json", 400),
        ("POST", f"{ROUTES}?dryRun=Some", b"{}", "application/json", 400),
        ("POST", f"{ROUTES}?fieldValidation=Loud", b"{}", "application/json", 400),
        ("POST", ROUTES.replace("default", "absent"), json.dumps(route()).encode(), "application/json", 404),
        ("PATCH", f"{ROUTES}/web", b"{}", "text/plain", 415),
        ("PATCH", f"{ROUTES}/absent", b"{}", MERGE, 404),
        ("PATCH", f"{ROUTES}/web", b'{"spec": null}', MERGE, 422),
        ("PATCH", f"{ROUTES}/web", b'{"metadata": {"name": "other"}}', MERGE, 400),
        (
            "PATCH",
            f"{ROUTES}/web",
            b'[{"op": "test", "path": "/spec/weight", "value": 1}]',
            "application/json-patch+json",
            422,
        ),
        ("PATCH", f"{ROUTES}/web", b"spec: {}", APPLY, 400),
        ("PUT", f"{ROUTES}/absent", json.dumps(route("absent")).encode(), "application/json", 404),
        ("POST", f"{ROUTES}/web", b"{}", "application/json", 405),
        ("PUT", ROUTES, b"{}", "application/json", 405),
        ("POST", "/apis/mesh.example.dev/v1/testroutes", b"{}", "application/json", 405),
        ("GET", "/apis/mesh.example.dev/v2/testroutes", None, "", 404),
        ("GET", "/apis/mesh.example.dev/v1/unknowns", None, "", 404),
        ("GET", "/nowhere", None, "", 404),
        ("GET", f"{ROUTES}/absent", None, "", 404),
        ("GET", f"{ROUTES}/web/scale", None, "", 404),
        ("GET", f"{ROUTES}?labelSelector=a%20b%20c", None, "", 400),
        ("GET", f"{ROUTES}?fieldSelector=spec.weight%3D1", None, "", 400),
        ("GET", f"{ROUTES}?limit=x", None, "", 400),
        ("GET", f"{ROUTES}?continue=%21%21", None, "", 400),
        ("GET", f"{ROUTES}?resourceVersion=99999", None, "", 410),
        ("GET", f"{ROUTES}?watch=1&resourceVersion=99999", None, "", 410),
    ],
)
def test_refusals_are_statuses(api: Running, method: str, path: str, body: bytes | None, kind: str, code: int) -> None:
    api.call("POST", ROUTES, route())
    found, status = api.call(method, path, body, **({"Content_Type": kind} if kind else {}))
    assert (found, status["kind"], status["status"], status["code"]) == (code, "Status", "Failure", code)
    assert status["message"]
    assert status["reason"]


def test_bodies_are_bounded(api: Running) -> None:
    code, status = api.call("POST", MAPS, config("big", a="x" * (4 << 20)))
    assert (code, status["reason"]) == (413, "RequestEntityTooLarge")
    code, status = api.call("POST", MAPS, config("big", a="x" * (2 << 20)))
    assert code == 422
    assert "at most 1048576" in status["message"]


def test_versions_share_their_objects(api: Running) -> None:
    body = {**route(), "apiVersion": "mesh.example.dev/v1beta1"}
    code, made = api.call("POST", BETA, body)
    assert (code, made["apiVersion"]) == (201, "mesh.example.dev/v1beta1")
    assert api.call("GET", f"{ROUTES}/web")[1]["apiVersion"] == "mesh.example.dev/v1"
    listed = api.call("GET", BETA)[1]
    assert (listed["apiVersion"], listed["kind"]) == ("mesh.example.dev/v1beta1", "TestRouteList")
    assert [one["apiVersion"] for one in listed["items"]] == ["mesh.example.dev/v1beta1"]
    assert api.store.list("mesh.example.dev", "TestRoute")[0]["apiVersion"] == "mesh.example.dev/v1"
    code, status = api.call("POST", ROUTES, body)
    assert (code, status["reason"]) == (400, "BadRequest")


def test_create_update_conflict_dry_run(api: Running) -> None:
    _, made = api.call("POST", ROUTES, route(), User_Agent="tester/1.0 (x)")
    assert made["metadata"]["managedFields"][0]["manager"] == "tester"
    assert made["spec"]["address"].startswith("10.0.0.")
    assert api.call("POST", ROUTES, route())[1]["reason"] == "AlreadyExists"
    revision = api.store.revision
    code, dry = api.call("PUT", f"{ROUTES}/web?dryRun=All", route(weight=1))
    assert (code, dry["spec"]["weight"], api.store.revision) == (200, 1, revision)
    assert api.call("POST", f"{ROUTES}?dryRun=All", route("other"))[0] == 201
    assert api.call("DELETE", f"{ROUTES}/web?dryRun=All")[0] == 200
    assert api.store.revision == revision
    made["spec"]["weight"] = 3
    assert api.call("PUT", f"{ROUTES}/web", made)[1]["spec"]["weight"] == 3
    made["spec"]["weight"] = 4
    code, status = api.call("PUT", f"{ROUTES}/web", made)
    assert (code, status["reason"]) == (409, "Conflict")
    assert "please apply your changes to the latest version" in status["message"]
    code, named = api.call("POST", ROUTES, {**route(), "metadata": {"generateName": "web-"}})
    assert code == 201
    assert named["metadata"]["name"].startswith("web-")
    code, headers, _ = api.raw("POST", ROUTES, route("idle", weight=0))
    assert code == 201
    assert headers["warning"] == '299 - "spec.weight: weight \\"0\\" sends nothing. Remove it."'
    assert api.store.history(api.registry.named("tr")[0].ref("default", "web"))[-1].author == "admin"


def test_status_and_spec_are_written_apart(api: Running) -> None:
    _, made = api.call("POST", ROUTES, {**route(), "status": {"forged": True}})
    assert "status" not in made
    made["status"] = {"ready": True}
    made["spec"]["weight"] = 1
    _, made = api.call("PUT", f"{ROUTES}/web/status", made)
    assert (made["status"], made["spec"].get("weight"), made["metadata"]["generation"]) == ({"ready": True}, None, 1)
    made["status"] = {"ready": False}
    made["spec"]["weight"] = 2
    _, made = api.call("PUT", f"{ROUTES}/web", made)
    assert (made["status"], made["spec"]["weight"], made["metadata"]["generation"]) == ({"ready": True}, 2, 2)
    applied = {"apiVersion": "mesh.example.dev/v1", "kind": "TestRoute", "status": {"seen": 1}, "spec": {"weight": 9}}
    _, made = api.call("PATCH", f"{ROUTES}/web/status?fieldManager=mesh", applied, Content_Type=APPLY)
    assert (made["status"], made["spec"]["weight"]) == ({"ready": True, "seen": 1}, 2)
    entry = next(one for one in made["metadata"]["managedFields"] if one["manager"] == "mesh")
    assert (entry["subresource"], entry["fieldsV1"]) == ("status", {"f:status": {"f:seen": {}}})


def test_server_side_apply(api: Running) -> None:
    def apply(manager: str, spec: dict[str, Any], *, force: bool = False) -> Any:
        path = f"{ROUTES}/web?fieldManager={manager}&force={str(force).lower()}"
        body = {"apiVersion": "mesh.example.dev/v1", "kind": "TestRoute", "metadata": {"name": "web"}, "spec": spec}
        return api.call("PATCH", path, body, Content_Type=APPLY)

    ports = [{"number": 80, "name": "http"}, {"number": 81}]
    assert apply("one", {"hosts": ["a"], "weight": 5, "ports": ports})[0] == 201
    revision = api.store.revision
    assert apply("one", {"hosts": ["a"], "weight": 5, "ports": ports})[0] == 200
    assert api.store.revision == revision
    # Another manager adds an item to the keyed list and sets a field of its own.
    code, made = apply("two", {"hosts": ["a"], "ports": [{"number": 82}], "target": 8080})
    assert code == 200
    assert [one["number"] for one in made["spec"]["ports"]] == [80, 81, 82]
    code, status = apply("two", {"hosts": ["b"], "weight": 6})
    assert code == 409
    assert status["reason"] == "Conflict"
    assert [(one["field"], one["reason"]) for one in status["details"]["causes"]] == [
        (".spec.hosts", "FieldManagerConflict"),
        (".spec.weight", "FieldManagerConflict"),
    ]
    assert status["message"].startswith('Apply failed with 2 conflicts: conflict with "one": .spec.hosts; ')
    # What a manager leaves out goes, unless somebody else owns it too.
    _, made = apply("one", {"hosts": ["a"], "ports": [{"number": 80}]})
    assert [one["number"] for one in made["spec"]["ports"]] == [80, 82]
    assert "name" not in made["spec"]["ports"][0]
    assert "weight" not in made["spec"]
    _, made = apply("two", {"hosts": ["b"]}, force=True)
    assert made["spec"]["hosts"] == ["b"]
    assert "target" not in made["spec"]
    assert [one["number"] for one in made["spec"]["ports"]] == [80]
    owners = {one["manager"]: one["fieldsV1"] for one in made["metadata"]["managedFields"]}
    assert owners["two"] == {"f:spec": {"f:hosts": {}}}
    assert owners["one"] == {"f:spec": {"f:ports": {'k:{"number":80,"protocol":"TCP"}': {".": {}, "f:number": {}}}}}


def test_merge_and_strategic_patches(api: Running) -> None:
    api.call("POST", ROUTES, route(ports=[{"number": 80, "name": "a"}, {"number": 81}]))
    _, made = api.call("PATCH", f"{ROUTES}/web", {"spec": {"ports": [{"number": 90}]}}, Content_Type=MERGE)
    assert [one["number"] for one in made["spec"]["ports"]] == [90]
    patch = {"spec": {"ports": [{"number": 91}, {"$patch": "delete", "number": 90}], "$setElementOrder/ports": []}}
    _, made = api.call("PATCH", f"{ROUTES}/web", patch, Content_Type=STRATEGIC)
    assert [one["number"] for one in made["spec"]["ports"]] == [91]
    patch = {"metadata": {"finalizers": ["x.dev/hold"]}}
    api.call("PATCH", f"{ROUTES}/web", patch, Content_Type=STRATEGIC)
    _, made = api.call("DELETE", f"{ROUTES}/web")
    assert made["metadata"]["deletionTimestamp"]
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x.dev/hold"]}}
    assert api.call("PATCH", f"{ROUTES}/web", patch, Content_Type=STRATEGIC)[0] == 200
    assert api.call("GET", f"{ROUTES}/web")[0] == 404


def test_delete_options_and_collections(api: Running) -> None:
    for name in ("a", "b", "c"):
        api.call("POST", MAPS, config(name))
    code, status = api.call("DELETE", f"{MAPS}/a", {"preconditions": {"uid": "another"}})
    assert (code, status["reason"]) == (409, "Conflict")
    code, status = api.call("DELETE", f"{MAPS}/a", {"propagationPolicy": "Background", "gracePeriodSeconds": 0})
    assert (code, status["status"], status["details"]["name"]) == (200, "Success", "a")
    assert len(api.call("DELETE", f"{MAPS}?labelSelector=n%3Db")[1]["items"]) == 1
    assert [one["metadata"]["name"] for one in api.call("GET", MAPS)[1]["items"]] == ["c"]


def test_lists_are_paged_at_one_revision(api: Running) -> None:
    for number in range(5):
        api.call("POST", MAPS, config(f"m{number}"))
    names: list[str] = []
    token, sizes = "", []
    while True:
        page = api.call("GET", f"{MAPS}?limit=2&continue={token}")[1]
        names += [one["metadata"]["name"] for one in page["items"]]
        sizes.append(page["metadata"].get("remainingItemCount"))
        token = page["metadata"].get("continue", "")
        if not token:
            break
        api.call("DELETE", f"{MAPS}/m4")
    assert names == ["m0", "m1", "m2", "m3", "m4"]
    assert sizes == [3, 1, None]
    api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "demo"}})
    api.call("POST", MAPS.replace("default", "demo"), config("m9"))
    across = api.call("GET", "/api/v1/configmaps?fieldSelector=metadata.namespace%3Ddemo")[1]["items"]
    assert [one["metadata"]["name"] for one in across] == ["m9"]
    page = api.call("GET", f"{MAPS}?limit=1")[1]
    api.store.compact(api.store.revision)
    api.call("POST", MAPS, config("later"))
    api.store.compact(api.store.revision)
    code, status = api.call("GET", f"{MAPS}?limit=1&continue={page['metadata']['continue']}")
    assert (code, status["reason"]) == (410, "Expired")


def test_tables(api: Running) -> None:
    api.call("POST", ROUTES, route(weight=7))
    table = api.call("GET", ROUTES, Accept=f"{TABLE},application/json")[1]
    assert table["kind"] == "Table"
    assert [one["name"] for one in table["columnDefinitions"]] == ["Name", "Hosts", "Weight", "Age"]
    assert table["rows"][0]["cells"][:3] == ["web", "a.example", 7]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert api.call("GET", f"{ROUTES}/web", Accept=TABLE)[1]["rows"][0]["cells"][0] == "web"
    partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    assert set(api.call("GET", ROUTES, Accept=partial)[1]["items"][0]) == {"kind", "apiVersion", "metadata"}


class Follower:
    """Reads a watch in a thread; `events` are what came."""

    def __init__(self, api: Running, path: str, **headers: str) -> None:
        self.link = api.open()
        self.link.request("GET", path, headers={"Authorization": "Bearer admin-token", **headers})
        self.answer = self.link.getresponse()
        assert self.answer.status == 200
        self.events: list[dict[str, Any]] = []
        self.ended = False
        self._came = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while line := self.answer.readline():
            with self._came:
                self.events.append(json.loads(line))
                self._came.notify_all()
        with self._came:
            self.ended = True
            self._came.notify_all()

    def wait(self, many: int) -> list[tuple[str, str]]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.events) >= many, 10), self.events
        return [(one["type"], one["object"]["metadata"].get("name", "")) for one in self.events]

    def end(self) -> None:
        with self._came:
            assert self._came.wait_for(lambda: self.ended, 10)
        self._thread.join(10)
        self.link.close()


def test_watch_from_a_revision_and_from_now(api: Running) -> None:
    api.call("POST", MAPS, config("a"))
    since = api.call("GET", MAPS)[1]["metadata"]["resourceVersion"]
    api.call("PATCH", f"{MAPS}/a", {"data": {"x": "y"}}, Content_Type=MERGE)
    query = f"?watch=true&timeoutSeconds=3&resourceVersion={since}"
    all_of_it = Follower(api, MAPS + query)
    labelled = Follower(api, f"{MAPS}?watch=true&timeoutSeconds=3&labelSelector=n%3Dz")
    initial = Follower(
        api,
        f"{MAPS}?watch=true&timeoutSeconds=3&sendInitialEvents=true&allowWatchBookmarks=true"
        "&resourceVersionMatch=NotOlderThan",
    )
    assert initial.wait(2)[0] == ("ADDED", "a")
    assert initial.events[1]["type"] == "BOOKMARK"
    assert initial.events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    api.call("POST", MAPS, config("b"))
    api.call("PATCH", f"{MAPS}/b", {"metadata": {"labels": {"n": "z"}}}, Content_Type=MERGE)
    api.call("PATCH", f"{MAPS}/b", {"metadata": {"labels": {"n": "q"}}}, Content_Type=MERGE)
    api.call("DELETE", f"{MAPS}/a")
    assert all_of_it.wait(5) == [
        ("MODIFIED", "a"),
        ("ADDED", "b"),
        ("MODIFIED", "b"),
        ("MODIFIED", "b"),
        ("DELETED", "a"),
    ]
    revisions = [int(one["object"]["metadata"]["resourceVersion"]) for one in all_of_it.events]
    assert revisions == sorted(revisions)
    assert labelled.wait(2) == [("ADDED", "b"), ("DELETED", "b")]
    for follower in (all_of_it, labelled, initial):
        follower.end()


def test_a_watch_from_a_compacted_revision_is_gone(api: Running) -> None:
    for number in range(3):
        api.call("POST", MAPS, config(f"m{number}"))
    api.store.compact(api.store.revision - 1)
    code, status = api.call("GET", f"{MAPS}?watch=true&resourceVersion=1")
    assert (code, status["reason"]) == (410, "Expired")
    assert "too old resource version" in status["message"]


def test_stopping_ends_watches(api: Running) -> None:
    follower = Follower(api, f"{MAPS}?watch=true")
    follower.wait(0)
    api.call("POST", MAPS, config("a"))
    follower.wait(1)
    api._run(api.server.stop())
    follower.end()
    assert follower.events[-1]["type"] == "ERROR"
    assert follower.events[-1]["object"]["code"] == 410


def test_discovery_and_openapi(api: Running) -> None:
    aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    code, headers, raw = api.raw("GET", "/apis", Accept=f"{aggregated},application/json")
    assert (code, headers["content-type"]) == (200, aggregated)
    groups = {one["metadata"]["name"]: one for one in json.loads(raw)["items"]}
    assert [one["version"] for one in groups["mesh.example.dev"]["versions"]] == ["v1", "v1beta1"]
    assert api.call("GET", "/api")[1]["versions"] == ["v1"]
    assert api.call("GET", "/apis/mesh.example.dev")[1]["preferredVersion"]["version"] == "v1"
    names = {one["name"] for one in api.call("GET", "/api/v1")[1]["resources"]}
    assert {"namespaces", "namespaces/status", "serviceaccounts/token", "secrets", "configmaps"} <= names
    index = api.call("GET", "/openapi/v3")[1]["paths"]
    url = index["apis/mesh.example.dev/v1"]["serverRelativeURL"]
    code, headers, raw = api.raw("GET", url)
    document = json.loads(raw)
    patch = document["paths"]["/apis/mesh.example.dev/v1/namespaces/{namespace}/testroutes/{name}"]["patch"]
    assert {"dryRun", "fieldValidation", "fieldManager", "force"} <= {one["name"] for one in patch["parameters"]}
    assert api.raw("GET", url, If_None_Match=headers["etag"])[0] == 304
    spec = document["components"]["schemas"]["dev.example.mesh.v1.TestRoute"]["properties"]["spec"]
    assert spec["required"] == ["hosts"]
    assert spec["properties"]["target"] == {"x-kubernetes-int-or-string": True}
    assert spec["properties"]["match"]["items"]["properties"]["exact"] == {"type": "string"}
    assert spec["properties"]["weight"] == {
        "type": "integer",
        "format": "int64",
        "minimum": 0,
        "maximum": 100,
        "default": 100,
    }
    old = api.call("GET", "/openapi/v2")[1]
    gvk = old["definitions"]["dev.example.mesh.v1.TestRoute"]["x-kubernetes-group-version-kind"]
    assert gvk == [{"group": "mesh.example.dev", "version": "v1", "kind": "TestRoute"}]


def test_secrets(api: Running) -> None:
    path = "/api/v1/namespaces/default/secrets"
    secret = {"metadata": {"name": "tls"}, "type": "kubernetes.io/tls", "stringData": {"tls.crt": "c", "tls.key": "k"}}
    _, made = api.call("POST", path, secret)
    assert made["data"] == {"tls.crt": "Yw==", "tls.key": "aw=="}
    assert "stringData" not in made
    code, status = api.call("PATCH", f"{path}/tls", {"type": "Opaque"}, Content_Type=MERGE)
    assert (code, status["details"]["causes"][0]["field"]) == (422, "type")
    code, status = api.call("PATCH", f"{path}/tls", {"data": {"tls.crt": "%"}}, Content_Type=MERGE)
    assert status["details"]["causes"][0]["field"] == "data[tls.crt]"
    assert "stringData" in status["message"]
    api.call("PATCH", f"{path}/tls", {"immutable": True}, Content_Type=MERGE)
    assert api.call("PATCH", f"{path}/tls", {"data": {"tls.crt": "ZA=="}}, Content_Type=MERGE)[0] == 422


def test_reviews_and_tokens_in_json(api: Running) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    asked = {"spec": {"resourceAttributes": {"verb": "delete", "resource": "secrets", "namespace": "x"}}}
    assert api.call("POST", path, asked)[1]["status"]["allowed"] is True
    assert api.call("POST", path, asked, token=READER)[1]["status"]["allowed"] is False
    assert api.call("POST", path, {})[0] == 400
    token = "/api/v1/namespaces/default/serviceaccounts/{}/token"
    code, made = api.call("POST", token.format("default"), {"spec": {"expirationSeconds": 700}})
    assert (code, made["status"]["token"]) == (201, "token-of-default-default-700")
    assert api.call("POST", token.format("absent"), {})[0] == 404
    assert api.call("POST", token.format("default"), {"spec": {"expirationSeconds": 1}})[0] == 422
    assert api.call("POST", token.format("default"), {}, token=READER)[0] == 403
    assert api.call("GET", "/api/v1/namespaces/default/events")[1]["items"] == []


@pytest.mark.parametrize(
    "raw",
    [b"", b"k8s", MAGIC, MAGIC + b"\xff" * 20, MAGIC + b"\x0a\xff", MAGIC + b"\x0a\x05\x0a\x03foo", MAGIC + b"\x0b"],
)
def test_bytes_that_are_no_message_are_refused(raw: bytes) -> None:
    with pytest.raises(ProtobufError):
        decode(raw)
