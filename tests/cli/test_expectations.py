"""`fairlead test`: files of tests against files of configuration."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fairlead.cli.main import cli

SHOP = Path(__file__).resolve().parents[2] / "samples" / "shop"
SAMPLE = SHOP.parent / "tests" / "shop.yaml"
GOOD = f"""
files: [{SHOP}, {SHOP}/policies/authorization.yaml, {SHOP}/policies/subsets.yaml, {SHOP}/policies/header-routing.yaml]
workloads:
  - {{name: auditor, namespace: office, serviceAccount: auditor}}
tests:
  - name: jason sees version 3
    from: web-v1.shop
    to: http://reviews:9080/
    headers: {{x-user: jason}}
    expect: {{outcome: allowed, route: jason, reaches: reviews-v3}}
  - name: everybody else sees version 1
    from: [web-v1.shop, catalog-v1.shop]
    to: http://reviews:9080/
    expect: {{status: 200, reaches: reviews-v1.shop}}
  - name: only reviews may call ratings
    to: http://ratings.shop:9080/ratings/1
    allowed: [reviews-v1.shop, reviews-v2.shop, reviews-v3.shop]
  - name: not even reviews may write
    from: reviews-v1.shop
    to: http://ratings.shop:9080/ratings/1
    method: PUT
    expect: {{outcome: denied, status: 403, details: "rbac_access_denied_matched_policy[none]"}}
"""


def run(folder: Path, text: str, *arguments: str) -> Result:
    file = folder / "tests.yaml"
    file.write_text(text)
    return CliRunner().invoke(cli, ["test", "-f", str(file), *arguments])


def test_the_sample_holds() -> None:
    found = CliRunner().invoke(cli, ["test", "-f", str(SAMPLE)])
    assert found.exit_code == 0, found.output


def test_all_is_as_expected(tmp_path: Path) -> None:
    found = run(tmp_path, GOOD)
    assert found.exit_code == 0, found.output
    assert "ok   only reviews may call ratings: auditor.office ->" in found.output
    assert "ratings-v1" not in found.output, "who serves the request is not asked"
    assert found.output.splitlines()[-1].endswith("0 failed, 0 undecided")


def test_what_is_not_as_expected_is_named(tmp_path: Path) -> None:
    wrong = GOOD.replace("allowed: [reviews-v1.shop, ", "allowed: [web-v1.shop, ").replace(
        "reaches: reviews-v3", "reaches: ledger-v1"
    )
    found = run(tmp_path, wrong, "--failed")
    assert found.exit_code == 1
    assert "expected allowed, but it is 403 rbac_access_denied_matched_policy[none]" in found.output
    assert "expected denied, but it is 200 via_upstream" in found.output
    assert "expected to reach ledger-v1, not reviews-v3.shop" in found.output
    assert f"{tmp_path}/tests.yaml:17:5" in found.output
    assert "decided by" in found.output
    cases = ET.fromstring(run(tmp_path, wrong, "-o", "junit").output)
    assert cases.get("failures") == "3"
    data = json.loads(run(tmp_path, wrong, "-o", "json", "--failed").output)
    assert [one["result"] for one in data["checks"]] == ["failed"] * 3
    assert data["checks"][1]["decided"]["origins"][0]["name"] == "ratings"


def test_chance_is_neither(tmp_path: Path) -> None:
    text = f"files: [{SHOP}, {SHOP}/policies/faults.yaml]\ntests:\n"
    text += "  - {name: a, from: web-v1.shop, to: 'http://ratings:9080/', expect: {outcome: allowed}}\n"
    found = run(tmp_path, text)
    assert found.exit_code == 3, found.output
    assert "20 % of requests are aborted with status 503" in found.output
    assert found.output.startswith("??")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tests:\n  - {name: a, to: 'http://x/', form: web}\n", "2:32: error: tests[0].form: unknown field 'form'"),
        ("tests:\n  - {name: a, to: 'x://x/', allowed: []}\n", "[FL3600]"),
        ("tests:\n  - {name: a, to: 'http://x/'}\n", "the test names no caller"),
        ("tests:\n  - {name: a, to: 'http://x/', from: 'a:b', expect: {}}\n", "[FL3602]"),
        ("tests:\n  - {name: a, to: 'http://x/', from: a}\n", "the test expects nothing"),
        ("tests: [}\n", "tests.yaml:1:9: error"),
        ("files: [nowhere]\ntests:\n  - {name: a, to: 'http://x/', allowed: []}\n", "no such file or directory"),
    ],
)
def test_wrong_files_are_explained(tmp_path: Path, text: str, said: str) -> None:
    found = run(tmp_path, text)
    assert found.exit_code == 2, found.output
    assert said in found.output
