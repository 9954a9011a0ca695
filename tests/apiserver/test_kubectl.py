"""The real kubectl against the API server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
from running_api import Running

ROUTE = """\
apiVersion: mesh.example.dev/v1beta1
kind: TestRoute
metadata: {name: web}
spec:
  hosts: [a.example]
  ports: [{number: 80, name: http}]
"""


@lru_cache
def version() -> tuple[int, int] | None:
    if shutil.which("kubectl") is None:
        return None
    said = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


pytestmark = [
    pytest.mark.kubectl,
    pytest.mark.skipif((version() or (0, 0)) < (1, 32), reason="needs kubectl 1.32 or newer on PATH"),
]


MANY_RULES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: many, namespace: default}
spec:
  hosts: [h.example]
  http:
"""


class Kubectl:
    """Runs kubectl in a directory of its own."""

    def __init__(self, api: Running) -> None:
        self.directory = api.directory
        self.environment = {**os.environ, "KUBECONFIG": str(api.kubeconfig), "HOME": str(api.directory)}

    def run(self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> tuple[int, str, str]:
        done = subprocess.run(
            ["kubectl", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=20,
            env={**self.environment, **(env or {})},
            cwd=self.directory,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def __call__(self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> str:
        code, out, err = self.run(*arguments, stdin=stdin, env=env)
        assert code == 0, err
        return out

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["kubectl", *arguments], stdout=subprocess.PIPE, text=True, env=self.environment, cwd=self.directory
        )


@pytest.fixture
def kubectl(api: Running) -> Iterator[Kubectl]:
    yield Kubectl(api)


def test_typed_create_sends_protobuf_and_is_understood(kubectl: Kubectl, api: Running) -> None:
    assert kubectl("create", "ns", "demo") == "namespace/demo created\n"
    kubectl("create", "cm", "settings", "-n", "demo", "--from-literal=a=b", "--from-literal=empty=")
    kubectl("create", "sa", "bot", "-n", "demo")
    kubectl("create", "secret", "generic", "key", "-n", "demo", "--from-literal=password=hunter2")
    assert kubectl("create", "token", "bot", "-n", "demo", "--duration=20m").strip() == "token-of-demo-bot-1200"
    assert api.call("GET", "/api/v1/namespaces/demo/configmaps/settings")[1]["data"] == {"a": "b", "empty": ""}
    secret = api.call("GET", "/api/v1/namespaces/demo/secrets/key")[1]
    assert (secret["type"], secret["data"]) == ("Opaque", {"password": "aHVudGVyMg=="})
    assert kubectl("get", "sa", "-n", "demo", "-o", "name").split() == ["serviceaccount/bot", "serviceaccount/default"]
    code, _, err = kubectl.run("create", "sa", "bot", "-n", "absent")
    assert code == 1
    assert 'namespaces "absent" not found' in err
    assert "AlreadyExists" in kubectl.run("create", "ns", "demo")[2]


def test_auth(kubectl: Kubectl) -> None:
    assert "admin" in kubectl("auth", "whoami")
    assert kubectl("auth", "can-i", "delete", "testroutes").strip() == "yes"
    assert "*.*" in kubectl("auth", "can-i", "--list")
    code, out, _ = kubectl.run("--token", "reader-token", "auth", "can-i", "delete", "testroutes")
    assert (code, out.strip()[:2]) == (1, "no")
    code, _, err = kubectl.run("--token", "reader-token", "get", "secrets")
    assert code == 1
    assert "Forbidden" in err
    code, _, err = kubectl.run("--token", "wrong", "get", "ns")
    assert code == 1
    assert "Unauthorized" in err or "logged in" in err


def test_discovery_and_explain(kubectl: Kubectl) -> None:
    listed = kubectl("api-resources")
    assert re.search(r"^testroutes +tr +mesh.example.dev/v1 +true +TestRoute$", listed, re.MULTILINE)
    assert re.search(r"^namespaces +ns +v1 +false +Namespace$", listed, re.MULTILINE)
    assert "mesh.example.dev/v1beta1" in kubectl("api-versions").split()
    said = kubectl("explain", "testroute.spec.hosts")
    assert "Host names that the route is for." in said
    assert "<[]string> -required-" in kubectl("explain", "tr.spec")
    assert "Texts, by key." in kubectl("explain", "cm.data")
    assert "v1beta1" in kubectl("explain", "tr", "--api-version=mesh.example.dev/v1beta1")


def test_apply_get_edit_describe_diff_delete(kubectl: Kubectl) -> None:
    file = kubectl.directory / "route.yaml"
    file.write_text(ROUTE)
    assert kubectl("apply", "-f", "route.yaml") == "testroute.mesh.example.dev/web created\n"
    assert kubectl("apply", "-f", "route.yaml") == "testroute.mesh.example.dev/web unchanged\n"
    assert kubectl("get", "tr").splitlines()[0].split() == ["NAME", "HOSTS", "AGE"]
    assert kubectl("get", "tr", "-o", "wide").splitlines()[1].split()[:3] == ["web", "a.example", "100"]
    assert "apiVersion: mesh.example.dev/v1\n" in kubectl("get", "tr", "web", "-o", "yaml")
    beta = json.loads(kubectl("get", "testroutes.v1beta1.mesh.example.dev", "web", "-o", "json"))
    assert beta["apiVersion"] == "mesh.example.dev/v1beta1"
    assert kubectl("get", "mesh-all", "-A").splitlines()[0].split() == ["NAMESPACE", "NAME", "HOSTS", "AGE"]
    described = kubectl("describe", "tr", "web")
    assert "a.example" in described
    assert "Events:" in described

    file.write_text(ROUTE.replace("a.example", "b.example"))
    code, out, _ = kubectl.run("diff", "-f", "route.yaml")
    assert code == 1
    changed = [line for line in out.splitlines() if re.match(r"[-+][^-+]", line)]
    assert changed == ["-  generation: 1", "+  generation: 2", "-  - a.example", "+  - b.example"]
    assert kubectl("apply", "-f", "route.yaml", "--dry-run=server").strip().endswith("configured (server dry run)")
    assert "a.example" in kubectl("get", "tr", "web")
    assert kubectl("apply", "-f", "route.yaml").strip().endswith("configured")
    assert kubectl.run("diff", "-f", "route.yaml")[0] == 0

    edited = kubectl("edit", "tr", "web", env={"EDITOR": "sed -i s/b.example/c.example/"})
    assert edited == "testroute.mesh.example.dev/web edited\n"
    assert "c.example" in kubectl("get", "tr", "web")
    kubectl("replace", "-f", "route.yaml")
    assert "b.example" in kubectl("get", "tr", "web")
    assert "deleted" in kubectl("delete", "-f", "route.yaml")
    assert "NotFound" in kubectl.run("get", "tr", "web")[2]


def test_server_side_apply_reports_conflicts(kubectl: Kubectl) -> None:
    assert kubectl("apply", "--server-side", "-f", "-", stdin=ROUTE).strip().endswith("serverside-applied")
    other = ROUTE.replace("a.example", "b.example")
    code, _, err = kubectl.run("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=other)
    assert code == 1
    assert 'conflict with "kubectl": .spec.hosts' in err
    kubectl("apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-", stdin=other)
    assert "b.example" in kubectl("get", "tr", "web")
    # From client-side to server-side apply: kubectl moves the ownership by itself.
    kubectl("apply", "-f", "-", stdin=ROUTE.replace("web", "second"))
    kubectl("apply", "--server-side", "-f", "-", stdin=ROUTE.replace("web", "second").replace("a.ex", "z.ex"))
    assert "z.example" in kubectl("get", "tr", "second")


def test_patch_label_annotate(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=ROUTE)
    kubectl("patch", "tr", "web", "--type=merge", "-p", '{"spec":{"weight":5}}')
    kubectl("patch", "tr", "web", "--type=json", "-p", '[{"op":"replace","path":"/spec/hosts/0","value":"j.example"}]')
    kubectl("patch", "tr", "web", "-p", '{"spec":{"ports":[{"number":81}]}}')
    kubectl("label", "tr", "web", "app=web")
    kubectl("annotate", "tr", "web", "note=hello")
    assert kubectl("get", "tr", "-l", "app in (web,db)", "-o", "name") == "testroute.mesh.example.dev/web\n"
    found = json.loads(kubectl("get", "tr", "web", "-o", "json"))
    assert found["spec"]["weight"] == 5
    assert found["spec"]["hosts"] == ["j.example"]
    assert [one["number"] for one in found["spec"]["ports"]] == [80, 81]
    assert found["metadata"]["annotations"]["note"] == "hello"
    kubectl("label", "tr", "web", "app-")
    assert kubectl("get", "tr", "-l", "app") == ""


def test_what_is_wrong_is_said(kubectl: Kubectl) -> None:
    wrong = ROUTE.replace("hosts:", "host:").replace("number: 80", "number: http")
    code, _, err = kubectl.run("apply", "-f", "-", stdin=wrong)
    assert code == 1
    assert 'The TestRoute "web" is invalid:' in err
    assert "* spec.host: unknown field 'host'. Did you mean 'hosts'?" in err
    assert "* spec.hosts: required" in err
    assert "* spec.ports[0].number: expected an integer, found the string 'http'" in err
    assert "Warning: spec.weight" in kubectl.run("apply", "-f", "-", stdin=ROUTE + "  weight: 0\n")[2]
    rules = "  - {match: [{uri: {prefix: /x}}], route: [{destination: {host: h}}]}\n" * 400
    code, _, err = kubectl.run("apply", "-f", "-", stdin=MANY_RULES + rules)
    assert (code, err.count("Warning: spec.http")) == (0, 49)
    assert "Warning: and 749 more warnings: `fairlead validate` tells all" in err


def test_wait(kubectl: Kubectl, api: Running) -> None:
    kubectl("apply", "-f", "-", stdin=ROUTE)
    waiting = kubectl.start("wait", "tr/web", "--for=jsonpath={.spec.weight}=7", "--timeout=15s")
    kubectl("patch", "tr", "web", "--type=merge", "-p", '{"spec":{"weight":7}}')
    assert waiting.communicate(timeout=20)[0] == "testroute.mesh.example.dev/web condition met\n"
    status = {"conditions": [{"type": "Programmed", "status": "True", "reason": "Acked"}]}
    path = "/apis/mesh.example.dev/v1/namespaces/default/testroutes/web"
    assert (
        api.call("PATCH", f"{path}/status", {"status": status}, Content_Type="application/merge-patch+json")[0] == 200
    )
    kubectl("wait", "tr/web", "--for=condition=Programmed", "--timeout=15s")
    gone = kubectl.start("wait", "tr/web", "--for=delete", "--timeout=15s")
    kubectl("delete", "tr", "web")
    gone.communicate(timeout=20)
    assert gone.returncode == 0


def test_watch(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=ROUTE)
    watching = kubectl.start("get", "tr", "-w", "-o", "wide")
    lines: list[str] = []
    seen = threading.Condition()

    def read() -> None:
        assert watching.stdout is not None
        for line in watching.stdout:
            with seen:
                lines.append(line)
                seen.notify_all()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def await_lines(many: int) -> None:
        with seen:
            assert seen.wait_for(lambda: len(lines) >= many, 15), lines

    await_lines(2)
    kubectl("patch", "tr", "web", "--type=merge", "-p", '{"spec":{"weight":9}}')
    await_lines(3)
    watching.terminate()
    watching.wait(10)
    reader.join(10)
    assert watching.stdout is not None
    watching.stdout.close()
    assert lines[0].split() == ["NAME", "HOSTS", "WEIGHT", "AGE"]
    assert [line.split()[2] for line in lines[1:]] == ["100", "9"]


def test_a_namespace_goes_with_its_content(kubectl: Kubectl, api: Running) -> None:
    kubectl("create", "ns", "demo")
    kubectl("create", "cm", "one", "-n", "demo")
    kubectl("apply", "-n", "demo", "-f", "-", stdin=ROUTE)
    assert kubectl("delete", "ns", "demo", "--timeout=15s") == 'namespace "demo" deleted\n'
    assert api.store.list("", "ConfigMap", "demo") == []
    assert api.store.list("mesh.example.dev", "TestRoute", "demo") == []
    assert "may not be deleted" in kubectl.run("delete", "ns", "default")[2]
    kubectl("create", "cm", "one")
    kubectl("create", "cm", "two")
    kubectl("delete", "cm", "--all")
    assert api.store.list("", "ConfigMap") == []


def test_client_side_apply_of_builtin_kinds_is_strategic(kubectl: Kubectl, tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: bot}\nsecrets: [{name: a}, {name: b}]\n"
    kubectl("apply", "-f", "-", stdin=text)
    kubectl("patch", "sa", "bot", "-p", '{"secrets":[{"name":"c"}]}')
    kubectl("apply", "-f", "-", stdin=text.replace("{name: a}, ", ""))
    found = json.loads(kubectl("get", "sa", "bot", "-o", "json"))
    assert sorted(one["name"] for one in found["secrets"]) == ["b", "c"]


SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80}
"""


def ports(kubectl: Kubectl, name: str) -> list[str]:
    found = json.loads(kubectl("get", "svc", name, "-o", "json"))["spec"]["ports"]
    return [f"{one['name']} {one['port']}/{one['protocol']}" for one in found]


def test_ports_of_a_service_are_merged_by_number(kubectl: Kubectl) -> None:
    said = kubectl("create", "service", "clusterip", "plain", "--tcp=80:8080", "--tcp=53:53")
    assert said == "service/plain created\n"
    assert ports(kubectl, "plain") == [
        "80-8080 80/TCP",
        "53-53 53/TCP",
    ]
    kubectl("apply", "-f", "-", stdin=SERVICE)
    kubectl("patch", "svc", "web", "-p", '{"spec":{"ports":[{"name":"https","port":443,"protocol":"TCP"}]}}')
    assert sorted(ports(kubectl, "web")) == ["http 80/TCP", "https 443/TCP"]
    kubectl("apply", "-f", "-", stdin=SERVICE.replace("name: http,", "name: web,"))
    assert sorted(ports(kubectl, "web")) == ["https 443/TCP", "web 80/TCP"], "the other writer's port stays"


def test_two_managers_share_the_ports_of_a_service(kubectl: Kubectl) -> None:
    text = SERVICE.replace("web", "shared")
    kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=text)
    more = "apiVersion: v1\nkind: Service\nmetadata: {name: shared}\nspec:\n  ports:\n  - {name: https, port: 443}\n"
    kubectl("apply", "--server-side", "--field-manager=two", "-f", "-", stdin=more)
    assert sorted(ports(kubectl, "shared")) == ["http 80/TCP", "https 443/TCP"]
    code, _, said = kubectl.run(
        "apply", "--server-side", "--field-manager=two", "-f", "-", stdin=text.replace("name: http,", "name: mine,")
    )
    assert code != 0
    assert 'conflict with "one"' in said
    assert '.spec.ports[port=80,protocol="TCP"].name' in said
