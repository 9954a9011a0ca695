"""`fairlead analyze` and `explain-code` on files: forms, exit codes, suppressions, and what wrong usage says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fairlead.cli.main import cli

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
WRONG = """
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: web, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec:
  hosts: [cart]
  http: [{route: [{destination: {host: crat}}]}]
"""


def run(*arguments: object, stdin: str = "") -> Result:
    found = CliRunner().invoke(cli, [str(one) for one in arguments], input=stdin)
    assert found.exception is None or isinstance(found.exception, SystemExit), found.output
    return found


def data(found: Result) -> Any:
    return json.loads(found.stdout)


def test_the_samples_are_clean() -> None:
    found = run("analyze", SAMPLES / "shop", "--fail-on", "info")
    assert found.exit_code == 0, found.output
    assert "0 errors, 0 warnings" in found.stdout


def test_files_of_tests_are_no_objects(tmp_path: Path) -> None:
    found = run("analyze", SAMPLES / "tests", "--fail-on", "info")
    assert (found.exit_code, found.stdout.startswith("0 objects")) == (0, True), found.output
    (tmp_path / "more.yaml").write_text("tests: [{name: x}]\nspec: {}\n")
    assert run("analyze", tmp_path).exit_code == 1, "what has more than tests is judged as an object"


def test_exit_codes_follow_the_worst_finding() -> None:
    # Nobody is there who could call: the finding has no witness and is a warning.
    for limit, status in (("error", 0), ("warning", 1), ("info", 1), ("none", 0)):
        assert run("analyze", "-", "--fail-on", limit, stdin=WRONG).exit_code == status
    assert run("analyze").exit_code in (1, 2)
    assert run("analyze", "nowhere.yaml").exit_code == 1
    assert run("analyze", "-", "--analyzer", "nobody", stdin=WRONG).exit_code == 2
    assert run("analyze", "-", "--suppress", "FL1", stdin=WRONG).exit_code == 2
    assert run("analyze", "-", "--at", "3", stdin=WRONG).exit_code == 2


def test_forms_for_programs() -> None:
    found = data(run("analyze", "-", "-o", "json", stdin=WRONG))
    by = {one["code"]: one for one in found["findings"]}
    assert by["IST0101"]["field"] == "spec.http[0].route[0].destination.host"
    assert (by["IST0101"]["file"], by["IST0101"]["line"], by["IST0101"]["column"]) == ("<stdin>", 12, 34)
    assert run("analyze", "-", "-o", "yaml", stdin=WRONG).stdout.startswith("findings:")
    table = run("analyze", "-", "-o", "table", stdin=WRONG).stdout.splitlines()
    assert table[0].split() == ["SEVERITY", "CODE", "PLACE", "OBJECT", "FIELD", "MESSAGE"]
    annotated = run("analyze", "-", "-o", "github", stdin=WRONG).stdout
    assert "::warning file=<stdin>,line=12,col=34,title=IST0101::VirtualService shop/cart spec.http[0]" in annotated


def test_sarif_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG)
    log = data(run("analyze", file, "-o", "sarif"))
    assert log["version"] == "2.1.0"
    (one,) = log["runs"]
    rules = one["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in one["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"] == str(file)
        assert location["physicalLocation"]["region"]["startLine"] >= 1


def test_suppressions_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".fairlead").mkdir()
    kept = tmp_path / ".fairlead/analyze.yaml"
    kept.write_text("suppress:\n- {code: IST0101, object: VirtualService shop/*}\n- {code: IST0139}\n")
    found = data(run("analyze", "-", "-o", "json", stdin=WRONG))
    codes = [one["code"] for one in found["findings"]]
    assert "IST0101" not in codes
    unused = [one for one in found["findings"] if one["code"] == "FL3790"]
    assert [(one["file"], one["line"]) for one in unused] == [(".fairlead/analyze.yaml", 3)]
    kept.write_text("suppress:\n- {cod: IST0101}\n")
    said = run("analyze", "-", stdin=WRONG)
    assert said.exit_code == 2
    assert "FL3791" in said.output and "analyze.yaml:2" in said.output


def test_kinds_that_nobody_reads() -> None:
    text = (
        "apiVersion: rbac.istio.io/v1alpha1\nkind: ServiceRole\nmetadata: {name: x, namespace: shop}\nspec: {}\n---\n"
    )
    text += "apiVersion: networking.istio.io/v1\nkind: VirtualServcie\nmetadata: {name: x}\nspec: {}\n---\n"
    text += "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: x}\nspec: {}\n"
    found = data(run("analyze", "-", "-o", "json", stdin=text))["findings"]
    assert [(one["code"], one["severity"]) for one in found] == [("FL3700", "Error"), ("FL0007", "Error")]
    assert "AuthorizationPolicy" in found[0]["remedy"] and "VirtualService" in found[1]["remedy"]


def test_codes_are_explained() -> None:
    assert "ReferencedResourceNotFound" in run("explain-code", "ist0101").stdout
    assert data(run("explain-code", "FL3709", "-o", "json"))["traffic"] is True
    assert "Never reported" in run("explain-code", "IST0141").stdout
    assert run("explain-code", "all").stdout.count("\n") > 100
    wrong = run("explain-code", "IST0999")
    assert wrong.exit_code == 1 and "Did you mean" in wrong.output


def test_analyzers_are_listed() -> None:
    assert "virtualservice.GatewayAnalyzer" in run("analyze", "-L").stdout
