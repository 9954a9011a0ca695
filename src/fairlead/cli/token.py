"""`fairlead token`: join tokens."""

from __future__ import annotations

from pathlib import Path

import click

from fairlead.cli.printing import show


@click.group()
def token() -> None:
    """Make, list and revoke join tokens: what lets a workload ask for its first certificate."""


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
    fairlead token create -n shop --service-account ratings > ratings.token

    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    from fairlead.cli.connecting import connected
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


_STATE = click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="The state directory.")
_KUBECONFIG = click.option(
    "--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, then STATE/kubeconfig."
)


@token.command("list")
@_STATE
@_KUBECONFIG
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data instead of a table.")
def list_(state: Path | None, kubeconfig: Path | None, output: str | None) -> None:
    """List the tokens that have not ended, without their secret. USED counts the certificates that each has fetched.

    \b
    fairlead token list -o json

    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    from fairlead.cli.connecting import connected
    from fairlead.cli.printing import print_table

    with connected(kubeconfig, state) as client:
        found = client.request("GET", "/fairlead/v1/tokens").document["tokens"]
    if output:
        show(found, output)
        return
    print_table(
        ("ID", "NAMESPACE", "SERVICE ACCOUNT", "AUDIENCE", "ENDS", "USED", "REVOKED"),
        [
            (
                one["id"],
                one["namespace"],
                one["service_account"],
                one["audience"],
                one["expires"],
                one["used"],
                "yes" if one["revoked"] else "",
            )
            for one in found
        ],
        blank="",
    )


@token.command()
@click.argument("ids", nargs=-1)
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("--service-account", help="Revoke every token of this service account that was made until now.")
@_STATE
@_KUBECONFIG
def revoke(
    ids: tuple[str, ...], namespace: str, service_account: str | None, state: Path | None, kubeconfig: Path | None
) -> None:
    """Refuse tokens from now on: by ID, or all of a service account.

    Certificates that they have fetched go on and renew themselves.

    \b
    fairlead token revoke -n shop --service-account web

    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    from fairlead.cli.connecting import connected
    from fairlead.cli.printing import complain

    if bool(ids) == bool(service_account):
        raise click.UsageError("name token ids (`fairlead token list`), or a --service-account")
    body = {"ids": ids, "namespace": namespace, "serviceAccount": service_account or ""}
    with connected(kubeconfig, state) as client:
        found = client.request("POST", "/fairlead/v1/tokens/revoke", body).document
    for unknown in found["unknown"]:
        complain(f"warning: no token {unknown} is in the list; it is refused in any case")
    click.echo(f"revoked {found['revoked']}")
