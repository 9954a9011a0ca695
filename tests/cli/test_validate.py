"""`fairlead validate`: forms of output, exit status, places in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from fairlead.cli.main import cli

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "shop"
GOOD = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
BAD = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http:
  - route: [{destination: {host: reviews}, wieght: 1}]
"""
DOUBTFUL = """apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: a, namespace: shop}
spec: {selector: {matchLabels: {}}}
"""


def validate(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(cli, ["validate", *arguments], input=text)


def test_good_files() -> None:
    found = validate("-f", "-", text=GOOD)
    assert (found.exit_code, found.output) == (0, "1 objects, 0 errors, 0 warnings\n")
    assert validate("-f", str(SAMPLES)).exit_code == 0


def test_a_finding_has_a_place_a_field_and_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(BAD)
    found = validate("-f", str(path))
    assert found.exit_code == 1
    assert f"{path}:7:44: error: VirtualService shop/reviews spec.http[0].route[0].wieght: unknown" in found.output
    assert "Did you mean 'weight'? [FL0003]" in found.output
    table = validate("-f", str(path), "-o", "table").output.splitlines()
    assert table[0].split() == ["SEVERITY", "CODE", "PLACE", "OBJECT", "FIELD", "MESSAGE"]
    assert table[1].startswith("Error")
    for form, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        told = read(validate("-f", str(path), "-o", form).output)
        assert told["objects"] == 1
        only = told["findings"][0]
        assert (only["line"], only["kind"], only["field"]) == (7, "VirtualService", "spec.http[0].route[0].wieght")


@pytest.mark.parametrize(
    ("text", "limit", "status"),
    [(BAD, "none", 0), (BAD, "error", 1), (DOUBTFUL, "error", 0), (DOUBTFUL, "warning", 1), (GOOD, "info", 0)],
)
def test_the_exit_status_follows_the_severity(text: str, limit: str, status: int) -> None:
    assert validate("-f", "-", "--fail-on", limit, text=text).exit_code == status


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.json").write_text("{")
    found = validate("-f", str(tmp_path / "none"), "-f", str(tmp_path), "-R")
    assert found.exit_code == 1
    assert found.output.count("[FL2802]") == 2
    assert validate().exit_code == 2


def test_two_documents_for_one_object() -> None:
    found = validate("-f", "-", text=f"{GOOD}---\n{GOOD}")
    assert "warning: Namespace shop" in found.output
    assert "second time" in found.output
