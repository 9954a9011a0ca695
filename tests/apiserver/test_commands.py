"""`fairlead apply|get|delete|api-resources` against a running server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from running_api import ROUTE, Running

from fairlead.cli import delete, resources
from fairlead.compiler.registry import Registry, registry

GOOD = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
  namespace: demo
data:
  answer: "42"
---
apiVersion: v1
kind: Namespace
metadata:
  name: demo
"""

WRONG = """\
apiVersion: mesh.example.dev/v1
kind: TestRoute
metadata:
  name: web
spec:
  host: [a.example]
  hosts: [a.example]
  ports:
  - number: http
---
apiVersion: v1
kind: ConfigMp
metadata:
  name: x
"""


@pytest.fixture(autouse=True)
def all_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands know the kind of the tests too."""
    made = Registry((*registry().kinds, ROUTE))
    monkeypatch.setattr(resources, "registry", lambda: made)


class Fairlead:
    """Runs commands in this process."""

    def __init__(self, api: Running) -> None:
        self.kubeconfig = str(api.kubeconfig)

    def __call__(self, command: str, *arguments: str, stdin: str = "", code: int = 0) -> Result:
        made: Any = {
            "apply": resources.apply,
            "get": resources.get,
            "delete": delete.delete,
            "api-resources": resources.api_resources,
        }[command]
        extra = [] if command == "api-resources" else ["--kubeconfig", self.kubeconfig]
        done = CliRunner().invoke(made, [*arguments, *extra], input=stdin)
        assert done.exit_code == code, done.output
        return done


@pytest.fixture
def fairlead(api: Running) -> Fairlead:
    return Fairlead(api)


def test_apply_get_delete(fairlead: Fairlead, tmp_path: Path, api: Running) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    assert fairlead("apply", "-f", str(file)).stdout.splitlines() == [
        "namespace/demo created",
        "configmap/settings created",
    ]
    assert fairlead("apply", "-f", str(file), "--server-side").stdout.splitlines() == [
        "namespace/demo unchanged",
        "configmap/settings unchanged",
    ]
    file.write_text(GOOD.replace("42", "43"))
    dry = fairlead("apply", "-f", str(file), "--dry-run").stdout
    assert "configmap/settings configured (server dry run)" in dry
    assert fairlead("apply", "-f", str(file), "-o", "name").stdout.split() == ["namespace/demo", "configmap/settings"]
    shown = json.loads(fairlead("get", "cm", "settings", "-n", "demo", "-o", "json").stdout)
    assert shown["data"] == {"answer": "43"}
    assert "answer: '43'" in fairlead("get", "cm/settings", "-n", "demo", "-o", "yaml").stdout
    table = fairlead("get", "configmaps", "-A").stdout.splitlines()
    assert table[0].split() == ["NAMESPACE", "NAME", "DATA", "AGE"]
    assert table[1].split()[:3] == ["demo", "settings", "1"]
    assert "No objects found in namespace default." in fairlead("get", "cm").stderr
    several = fairlead("get", "ns,sa", "-n", "demo").stdout
    assert "namespace/demo" in several
    assert "serviceaccount/default" in several
    assert fairlead("delete", "-f", str(file)).stdout.splitlines() == [
        "configmap/settings deleted",
        "namespace/demo deleted",
    ]
    assert "not found" in fairlead("delete", "ns", "demo", code=1).stderr
    fairlead("delete", "ns", "demo", "--ignore-not-found")


MANY = (
    """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: many, namespace: default}
spec:
  hosts: [h.example]
  http:
"""
    + "  - {match: [{uri: {prefix: /x}}], route: [{destination: {host: h}}]}\n" * 400
)


def test_an_object_with_hundreds_of_warnings_is_applied(fairlead: Fairlead) -> None:
    """Python's client takes no more than a hundred headers, and each warning is one."""
    done = fairlead("apply", "-f", "-", stdin=MANY)
    assert done.stdout == "virtualservice.networking.istio.io/many created\n"
    assert done.stderr.count("warning: ") == 2 * 399


def test_everything_wrong_in_files_is_told_before_anything_is_sent(
    fairlead: Fairlead, tmp_path: Path, api: Running
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.yaml").write_text(GOOD)
    (tmp_path / "files" / "b.yaml").write_text(WRONG)
    (tmp_path / "files" / "c.yaml").write_text("a: 1\na: 2\n")
    (tmp_path / "files" / "notes.txt").write_text("not read")
    revision = api.store.revision
    told = fairlead("apply", "-f", str(tmp_path / "files"), "-f", "absent", code=1).stderr.splitlines()
    base = tmp_path / "files"
    assert any(line.startswith("absent: error: there is no such file") for line in told)
    assert f"{base}/c.yaml:2:1: error: duplicate key 'a'" in told
    assert any(
        line.startswith(
            f"{base}/b.yaml:6:3: error: TestRoute default/web spec.host: unknown field 'host'. Did you mean"
        )
        for line in told
    )
    assert any(line.startswith(f"{base}/b.yaml:9:5: error:") and "expected an integer" in line for line in told)
    assert any(line.startswith(f"{base}/b.yaml:12:1: error:") and "ConfigMap" in line for line in told)
    assert api.store.revision == revision


def test_what_the_server_refuses_is_placed_in_the_file(fairlead: Fairlead, api: Running) -> None:
    text = "apiVersion: mesh.example.dev/v1\nkind: TestRoute\nmetadata:\n  name: web\nspec:\n  hosts: [a]\n"
    told = fairlead("apply", "-f", "-", stdin=text + "  address: taken\n", code=1).stderr
    assert told.startswith(
        "<stdin>:7:3: error: TestRoute default/web spec.address: the address is taken. Leave it out."
    )
    fairlead("apply", "-f", "-", stdin=text)
    merge = "application/merge-patch+json"
    path = "/apis/mesh.example.dev/v1/namespaces/default/testroutes/web?fieldManager=other"
    api.call("PATCH", path, {"spec": {"hosts": ["z"]}}, Content_Type=merge)
    told = fairlead("apply", "-f", "-", stdin=text, code=1).stderr
    assert told.startswith('<stdin>:6:3: error: TestRoute default/web spec.hosts: conflict with "other"')
    assert "--force-conflicts" in told
    fairlead("apply", "-f", "-", "--force-conflicts", stdin=text)
    told = fairlead("apply", "-n", "absent", "-f", "-", stdin=text, code=1).stderr
    assert 'namespaces "absent" not found' in told
    assert "spec.weight" in fairlead("apply", "-f", "-", stdin=text + "  weight: 0\n").stderr


def test_usage_errors(fairlead: Fairlead, tmp_path: Path) -> None:
    assert "Did you mean 'secret'?" in fairlead("get", "secretz", code=2).stderr
    fairlead("apply", code=2)
    fairlead("delete", "cm", code=2)
    fairlead("delete", code=2)
    assert "no object" in fairlead("apply", "-f", "-", code=1).stderr
    made: Any = resources.get
    done = CliRunner().invoke(made, ["ns", "--state", str(tmp_path / "nowhere")])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: there is no kubeconfig at")
    assert "Traceback" not in done.output


def test_a_server_that_is_not_there(fairlead: Fairlead, api: Running, tmp_path: Path) -> None:
    config = json.loads(api.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    other = tmp_path / "other"
    other.write_text(json.dumps(config))
    made: Any = resources.get
    done = CliRunner().invoke(made, ["ns", "--kubeconfig", str(other)])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: cannot reach https://127.0.0.1:1")
    other.write_text("a: [")
    done = CliRunner().invoke(made, ["ns", "--kubeconfig", str(other)])
    assert done.exit_code == 1
    assert "this is not a kubeconfig" in done.stderr


def test_api_resources(fairlead: Fairlead) -> None:
    listed = fairlead("api-resources").stdout
    assert re.search(r"^secrets +v1 +true +Secret$", listed, re.MULTILINE)
    assert "testroutes.mesh.example.dev" in fairlead("api-resources", "-o", "name").stdout
    assert json.loads(fairlead("api-resources", "-o", "json").stdout)[0]["kind"] == "ConfigMap"


def test_get_follows(api: Running) -> None:
    code = "from fairlead.cli.resources import get; get()"
    environment = {**os.environ, "KUBECONFIG": str(api.kubeconfig), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", code, "cm", "-w"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as following:
        assert following.stdout is not None
        body: dict[str, Any] = {"metadata": {"name": "seen"}}
        api.call("POST", "/api/v1/namespaces/default/configmaps", body)
        assert following.stdout.readline().split() == ["NAME", "DATA", "AGE"]
        assert following.stdout.readline().split()[:2] == ["seen", "0"]
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 130
