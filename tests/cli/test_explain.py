"""`fairlead explain`: kinds, fields, and words that are neither."""

from __future__ import annotations

from click.testing import CliRunner, Result

from fairlead.cli.main import cli
from fairlead.compiler.fields import structures
from fairlead.compiler.registry import registry


def explain(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["explain", *arguments])


def test_a_kind_and_a_field() -> None:
    found = explain("vs")
    assert found.exit_code == 0
    assert found.output.startswith("VirtualService  networking.istio.io/v1\n")
    assert "http " in found.output
    found = explain("telemetry.spec.tracing.randomSamplingPercentage")
    assert "number" in found.output
    assert "Share of requests" in found.output
    assert "perTryTimeout" in explain("virtualservice", "--recursive").output
    assert "perTryTimeout" in explain("virtualservice.http.retries").output


def test_what_is_not_there() -> None:
    found = explain("virtualservise")
    assert found.exit_code == 1
    assert "did you mean VirtualService?" in found.output
    found = explain("virtualservice.spec.htp")
    assert "has no field spec.htp: did you mean http?" in found.output


def test_every_field_of_every_kind_is_described() -> None:
    assert not [
        f"{kind.kind} {one.path}.{field.name}"
        for kind in registry().kinds
        for one in structures(kind)
        for field in one.fields
        if not field.type
    ]
