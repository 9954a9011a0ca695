"""`fairlead compile`: what a proxy would get from files, without a control plane."""

from __future__ import annotations

import sys
from typing import Any, Literal, cast

import click

from fairlead.cli import manifests
from fairlead.cli.busy import busy
from fairlead.cli.printing import show
from fairlead.model.diagnostic import Severity
from fairlead.model.launch import Capture
from fairlead.model.object import Spec


class ProxyFile(Spec, frozen=True):
    """The description of a proxy: what its configuration may depend on."""

    type: Literal["sidecar", "router"] = "sidecar"
    namespace: str = "default"
    name: str = ""
    ips: tuple[str, ...] = ("127.0.0.1",)
    labels: dict[str, str] = {}
    service_account: str = "default"
    network: str = ""
    locality: str = ""
    capture: Capture | None = None


@click.command("compile")
@click.option("-f", "--filename", "files", multiple=True, required=True, help="File, directory or '-' (repeatable).")
@click.option("-R", "--recursive", is_flag=True, help="Descend into directories.")
@click.option("--proxy", "proxy", required=True, help="YAML or JSON file that describes the proxy.")
@click.option("-n", "--namespace", default="default", show_default=True, help="Namespace of objects that name none.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), default="json", show_default=True)
def compile_command(files: tuple[str, ...], recursive: bool, proxy: str, namespace: str, output: str) -> None:
    """Compile files to the Envoy configuration of one proxy.

    Prints `{"listeners": [], "routes": [], "clusters": [], "endpoints": []}`. Findings go to standard error; an object
    with an error is left out.

    The proxy file: type (sidecar or router), namespace, ips, labels, serviceAccount, network, locality.

    \b
    fairlead compile -f shop/ --proxy proxy.yaml | jq '.routes[].name'

    Exit status: 0 compiled, 1 an object has an error or failed, 2 wrong usage.
    """
    from fairlead.compiler.model import MeshModel
    from fairlead.compiler.offline import load

    view = proxy_view(proxy)
    names, missing = manifests.files(files, recursive=recursive)
    documents, broken = manifests.read(names)
    for complaint in (*missing, *broken):
        click.echo(str(complaint), err=True)
    model = MeshModel()
    with busy(f"compiling {len(documents)} objects"):
        found = load(model, documents, namespace)
    with busy("compiling the proxy's configuration"), model.opened(view) as catalog:
        found.extend(model.diagnostics())
    for one in found:
        click.echo(str(one), err=True)
    show(_as_json(catalog), output)
    if missing or broken or any(one.severity is Severity.ERROR for one in found):
        sys.exit(1)


def proxy_view(path: str) -> Any:
    """The view of the proxy that a file describes. Raises click.ClickException."""
    return _view(_proxy(path))


def _proxy(path: str) -> ProxyFile:
    from fairlead.model.decode import decode
    from fairlead.model.yaml import YAMLError, parse_documents

    try:
        documents = parse_documents(manifests.content(path), path)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
    except YAMLError as error:
        raise click.ClickException(str(error)) from None
    if len(documents) != 1:
        raise click.ClickException(f"{path}: expected one document, found {len(documents)}")
    described, problems = decode(ProxyFile, documents[0].data)
    if described is None:
        lines = (f"{documents[0].position(one.path)}: {one.path}: {one.message} {one.remedy}" for one in problems)
        raise click.ClickException("\n".join(lines))
    return described


def _view(described: ProxyFile) -> Any:
    from fairlead.ir.view import View, pairs

    default = Capture("redirect") if described.type == "sidecar" else Capture("none")
    return View(
        type=described.type,
        namespace=described.namespace,
        labels=pairs(described.labels),
        service_account=described.service_account,
        addresses=described.ips,
        network=described.network,
        locality=described.locality,
        workload_name=described.name,
        capture=described.capture or default,
    )


def _as_json(catalog: Any) -> dict[str, list[Any]]:
    from fairlead.cli.protojson import decode, to_json
    from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource

    wanted = {"listeners": LISTENER, "routes": ROUTE, "clusters": CLUSTER, "endpoints": ENDPOINT}
    out: dict[str, list[Any]] = {}
    for title, type_url in wanted.items():
        found = cast("dict[str, Resource]", catalog[type_url])
        out[title] = [to_json(decode(type_url, found[name].body)) for name in sorted(found)]
    return out
