"""How proxies are started: Envoy's threads, environment and bootstrap.

Threads and environment are as ProxyConfig objects, annotations and MeshConfig say.

Istio's precedence: an object that selects the workload, the workload's annotation `proxy.istio.io/config`, an object of
its namespace, one of the root namespace, MeshConfig's `defaultConfig`. Numbers are taken from the first that has one,
variables one by one. Among equals the older object wins. A running proxy is left alone: this is for its next start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from fairlead.inc import Table
from fairlead.ir.filters import Pairs
from fairlead.ir.mesh import Mesh
from fairlead.ir.meshremoved import without_removed_proxy
from fairlead.ir.podannotations import annotated, names_settings, pod_annotation_problems
from fairlead.ir.proxyconfig import ProxyConfig
from fairlead.ir.proxyown import AT_ONCE, said_of
from fairlead.ir.proxysettings import AT_START, settings_of, start_problems, without_effect
from fairlead.ir.view import pairs, selects
from fairlead.model.decode import decode
from fairlead.model.diagnostic import Origin, Problem, Severity
from fairlead.model.launch import BootstrapPatch, ProxySettings
from fairlead.model.path import ROOT, FieldPath
from fairlead.model.protojson import of_protojson
from fairlead.model.ref import NamespacedName
from fairlead.model.yaml import YAMLError, parse_documents

ANNOTATION = "proxy.istio.io/config"
"""The annotation with a workload's own ProxyConfig fields, as YAML."""
WRONG = "FL3300"
_NAME = re.compile(r"[^=\0]+\Z")


class StartLayer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one place says. `concurrency` is the number of Envoy's worker threads, 0 for one for each core."""

    concurrency: int | None = None
    environment: Mapping[str, str] = {}
    settings: ProxySettings = ProxySettings()


class StartLayers(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is said of all workloads of a namespace, and what objects say that select the workload.

    `bootstrap` are the changes that EnvoyFilters make to Envoy's bootstrap, in order.
    """

    general: StartLayer = StartLayer()
    workload: StartLayer = StartLayer()
    bootstrap: tuple[BootstrapPatch, ...] = ()


class ProxyStart(msgspec.Struct, frozen=True):
    """A ProxyConfig object; an empty selector is for the whole namespace (of all, if that is the root)."""

    key: NamespacedName
    origin: Origin
    selector: Pairs = ()
    concurrency: int | None = None
    environment: Pairs = ()
    created: str = ""

    @property
    def layer(self) -> StartLayer:
        """What it says."""
        return StartLayer(self.concurrency, dict(self.environment))


PROXY_STARTS: Table[NamespacedName, ProxyStart] = Table("proxy start", stage=1)


def over(wins: StartLayer, base: StartLayer) -> StartLayer:
    """`base` with what `wins` says put over it."""
    concurrency = base.concurrency if wins.concurrency is None else wins.concurrency
    return StartLayer(concurrency, {**base.environment, **wins.environment}, _settings(wins.settings, base.settings))


def _settings(wins: ProxySettings, base: ProxySettings) -> ProxySettings:
    """Each field is taken from the one that says it, as a whole (Istio does not join lists of both)."""
    said = {name: value for name in wins.__struct_fields__ if (value := getattr(wins, name)) is not None}
    return msgspec.structs.replace(base, **said)


def layers_of(mesh: Mesh, starts: Iterable[ProxyStart], namespace: str, labels: Mapping[str, str]) -> StartLayers:
    """The layers of a workload with these labels in this namespace.

    Of several objects on one level the oldest stands alone (Istio's rule); they are not merged.
    """
    at = pairs(dict(labels))
    known = sorted(starts, key=lambda one: (one.created, one.key))
    general = StartLayer(mesh.proxy_concurrency, dict(mesh.proxy_environment), mesh.proxy_settings)
    for where in dict.fromkeys((mesh.root_namespace, namespace)):
        found = next((one for one in known if one.key.namespace == where and not one.selector), None)
        general = over(found.layer, general) if found is not None else general
    own = (one for one in known if one.key.namespace == namespace and one.selector and selects(one.selector, at))
    chosen = next(own, None)
    workload = chosen.layer if chosen is not None else StartLayer()
    return StartLayers(general, workload)


def effective(layers: StartLayers, annotations: Mapping[str, str]) -> StartLayer:
    """The layers with a workload's annotations between them.

    Annotations that are wrong say nothing (they were refused or warned about).
    """
    text = annotations.get(ANNOTATION)
    own = read_annotation(text)[0] if text else None
    between = StartLayer()
    if own is not None:
        settings = msgspec.structs.replace(settings_of(own), own=said_of(own) or None)
        between = StartLayer(own.concurrency, own.proxy_metadata, settings)
    between = over(StartLayer(settings=annotated(annotations)), between)
    return over(layers.workload, over(between, layers.general))


def starting(annotations: Mapping[str, str]) -> dict[str, str]:
    """Those of an object's annotations on which the start of its proxies depends."""
    return {name: text for name, text in annotations.items() if name == ANNOTATION or names_settings(name)}


def variable_problems(variables: Mapping[str, str], path: FieldPath) -> Iterator[Problem]:
    """What the operating system would refuse as an environment."""
    for name, value in variables.items():
        if not _NAME.match(name):
            remedy = "Use a name without '='."
            yield Problem(path / name, f"{name!r} is not a variable name", remedy=remedy, code=WRONG)
        if "\0" in value:
            yield Problem(path / name, "contains a NUL character", remedy="Remove it.", code=WRONG)


def read_annotation(text: str) -> tuple[ProxyConfig | None, list[Problem]]:
    """The fields of an annotation, None if a problem is an error. Paths begin in the annotation's value."""
    try:
        documents = parse_documents(text)
    except YAMLError as error:
        return None, [Problem(ROOT, error.message, remedy="Write ProxyConfig fields as YAML.", code=WRONG)]
    if len(documents) != 1:
        return None, [Problem(ROOT, "must be one YAML document", remedy="Write ProxyConfig fields.", code=WRONG)]
    read = of_protojson(ProxyConfig, documents[0].data)
    settings, removed = without_removed_proxy(read.value, ROOT)
    config, problems = decode(ProxyConfig, settings, ROOT)
    problems = [*problems, *removed]
    if config is not None:
        problems = [*problems, *variable_problems(config.proxy_metadata, ROOT / "proxyMetadata")]
        problems += start_problems(config, ROOT)
    if any(one.severity is Severity.ERROR for one in problems):
        return None, problems
    return config, problems


def annotation_problems(annotations: Mapping[str, str], path: FieldPath) -> Iterator[Problem]:
    """What is wrong with a workload's annotations of Istio's; `path` is that of the annotations."""
    yield from pod_annotation_problems(annotations, path)
    text = annotations.get(ANNOTATION)
    if not text:
        return
    config, problems = read_annotation(text)
    at = path / ANNOTATION
    for one in problems:
        message = f"{one.path}: {one.message}" if one.path else one.message
        yield msgspec.structs.replace(one, path=at, message=message)
    if config is None:
        return
    for one in without_effect(config, ROOT, AT_START | AT_ONCE):
        yield msgspec.structs.replace(one, path=at)
