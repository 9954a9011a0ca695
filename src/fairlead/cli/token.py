"""`fairlead token`: join tokens."""

from __future__ import annotations

from pathlib import Path

import click

from fairlead.cli.printing import show


@click.group()
def token() -> None:
    """Make join tokens: what lets a workload ask for its first certificate."""


@token.command()
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("--service-account", default="default", show_default=True, help="The identity that it stands for.")
@click.option("--ttl", default="1h", show_default=True, help="Lifetime, such as 30m or 24h.")
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="The state directory.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, then STATE/kubeconfig.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data instead of the bare token.")
def create(
    namespace: str, service_account: str, ttl: str, state: Path | None, kubeconfig: Path | None, output: str | None
) -> None:
    """Make a token and show it, this once.

    It joins workloads of one namespace and service account until it ends. Afterwards they renew by their certificate.

    \b
    fairlead token create -n shop --service-account ratings --ttl 10m > ratings.token
    """
    from fairlead.cli.resources import connected
    from fairlead.model.duration import parse_duration

    try:
        seconds = int(parse_duration(ttl))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--ttl") from None
    if seconds <= 0:
        raise click.BadParameter(f"{ttl} is over before it begins", param_hint="--ttl")
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": ["istio-ca"], "expirationSeconds": seconds},
    }
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
    with connected(kubeconfig, state) as client:
        made = client.request("POST", path, body).document["status"]
    if output:
        show(made, output)
    else:
        click.echo(made["token"])
