"""The relay machine against a model of Envoy and a model of a control plane."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.http.wasm.v3.wasm_pb2 import Wasm as HttpWasm
from envoy.service.discovery.v3 import discovery_pb2 as discovery
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.agent.effects import CloseUpstream, Fetch, Look, OpenUpstream, Save, ToEnvoy, ToUpstream, Withheld
from fairlead.agent.flow import SUBSTITUTED
from fairlead.agent.modules import Failed, Module, Ready
from fairlead.agent.relaystate import HEALTH, NAME_TABLE, Relay, Unhealthy
from fairlead.envoy.extension import extension_resource
from fairlead.envoy.pack import packed
from fairlead.envoy.resource import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE
from fairlead.envoy.upstreamtls import agent_secret
from fairlead.ir.extension import Extension, PullSecret, Wasm
from fairlead.model.diagnostic import Origin
from fairlead.model.path import SPEC
from fairlead.model.ref import NamespacedName, Ref

NAMED = (ENDPOINT, ROUTE)
NAMES = ("a", "b", "c")


FILED = "3"
"""The version of clusters and listeners that names a file."""
ROOTS = "file-root:/roots.pem"


def resource(kind: str, name: str, version: str) -> discovery.Resource:
    one = discovery.Resource(name=name, version=version)
    one.resource.type_url = kind
    filed = version == FILED and kind in (CLUSTER, LISTENER)
    one.resource.value = agent_secret(ROOTS).SerializeToString() if filed else version.encode()
    return one


class Plane:
    """A control plane with one delta session per stream."""

    def __init__(self) -> None:
        self.truth: dict[str, dict[str, str]] = {CLUSTER: {}, LISTENER: {}, ENDPOINT: {}, ROUTE: {}}
        self.health: list[str] = []
        self.open = False

    def connect(self) -> None:
        self.open = True
        self.first = True
        self.believed: dict[str, dict[str, str]] = {}
        self.wildcard: set[str] = set()
        self.names: dict[str, set[str]] = {}
        self.inflight: dict[str, str] = {}
        self.nonce = 0

    def receive(self, request: discovery.DeltaDiscoveryRequest) -> None:
        assert request.HasField("node") == self.first
        self.first = False
        kind = request.type_url
        if kind == HEALTH:
            self.health.append(request.error_detail.message)
            return
        if kind == NAME_TABLE:
            return
        if kind not in self.names:
            self.names[kind] = set()
            self.believed[kind] = dict(request.initial_resource_versions)
            if not request.resource_names_subscribe:
                self.wildcard.add(kind)
        if request.response_nonce:
            assert self.inflight.pop(kind, "") == request.response_nonce, "an answer to another stream's response"
        for name in request.resource_names_subscribe:
            if name in self.names[kind]:
                self.believed[kind].pop(name, None)
            self.names[kind].add(name)
        for name in request.resource_names_unsubscribe:
            self.names[kind].discard(name)
            self.believed[kind].pop(name, None)

    def push(self) -> list[bytes]:
        made: list[bytes] = []
        for kind, names in self.names.items():
            if kind in self.inflight:
                continue
            wants = {n: v for n, v in self.truth[kind].items() if kind in self.wildcard or n in names}
            believed = self.believed[kind]
            added = {n: v for n, v in wants.items() if believed.get(n) != v}
            removed = [n for n in believed if n not in wants]
            if not added and not removed:
                continue
            self.nonce += 1
            self.inflight[kind] = str(self.nonce)
            self.believed[kind] = wants
            made.append(
                discovery.DeltaDiscoveryResponse(
                    type_url=kind,
                    nonce=str(self.nonce),
                    resources=[resource(kind, n, v) for n, v in sorted(added.items())],
                    removed_resources=removed,
                ).SerializeToString()
            )
        return made


class Envoy:
    """A delta client: wildcard for clusters and listeners, a name per cluster or listener for the others."""

    def __init__(self) -> None:
        self.has: dict[str, dict[str, str]] = {CLUSTER: {}, LISTENER: {}, ENDPOINT: {}, ROUTE: {}}
        self.asked: dict[str, set[str]] = {ENDPOINT: set(), ROUTE: set()}
        self.out: deque[discovery.DeltaDiscoveryRequest] = deque()
        for kind in (CLUSTER, LISTENER):
            self.out.append(discovery.DeltaDiscoveryRequest(type_url=kind))
        self.out[0].node.id = "sidecar~10.0.0.1~a.b~b.svc.cluster.local"

    def receive(self, body: bytes, refuse: bool) -> None:
        message = discovery.DeltaDiscoveryResponse.FromString(body)
        kind = message.type_url
        answer = discovery.DeltaDiscoveryRequest(type_url=kind, response_nonce=message.nonce)
        taken = list(message.resources)
        if refuse and taken:
            answer.error_detail.message = "no"
            taken = taken[1:]  # Envoy applies the resources that it can
        for one in taken:
            if kind not in self.asked or one.name in self.asked[kind]:  # it may have lost interest meanwhile
                self.has[kind][one.name] = one.version
        for name in message.removed_resources:
            self.has[kind].pop(name, None)
        self.out.append(answer)
        follower = {CLUSTER: ENDPOINT, LISTENER: ROUTE}.get(kind)
        if follower:
            new, asked = set(self.has[kind]), self.asked[follower]
            if new != asked:
                request = discovery.DeltaDiscoveryRequest(type_url=follower)
                request.resource_names_subscribe.extend(sorted(new - asked))
                request.resource_names_unsubscribe.extend(sorted(asked - new))
                for name in asked - new:
                    self.has[follower].pop(name, None)
                self.asked[follower] = new
                self.out.append(request)


class World:
    def __init__(self) -> None:
        self.plane = Plane()
        self.saved: dict[str, dict[str, tuple[str, bytes]]] = {}
        self.relay = Relay({})
        self.to_envoy: deque[bytes] = deque()
        self.to_plane: deque[bytes] = deque()
        self.from_plane: deque[bytes] = deque()
        self.looks: deque[str] = deque()
        self.problem = ""
        self.wanted = False
        self.envoy: Envoy | None = None
        self.reachable = True

    def carry(self, effects: list[object]) -> None:
        for effect in effects:
            if isinstance(effect, ToEnvoy):
                self.to_envoy.append(effect.body)
            elif isinstance(effect, ToUpstream):
                self.to_plane.append(effect.body)
            elif isinstance(effect, OpenUpstream):
                self.wanted = True
                self.drop()
            elif isinstance(effect, CloseUpstream):
                self.wanted = False
                self.drop()
            elif isinstance(effect, Look):
                self.looks.append(effect.name)
            elif isinstance(effect, Save):
                self.saved[effect.type_url] = dict(self.relay.good(effect.type_url))

    def drop(self) -> None:
        self.plane.open = False
        self.to_plane.clear()
        self.from_plane.clear()

    def file(self, problem: str) -> None:
        """The file is put right, or is not: whoever watches it tells the relay."""
        self.problem = problem
        for name in self.relay.files():
            self.carry(self.relay.file(name, problem))

    def start_envoy(self) -> None:
        if self.envoy is not None:
            self.carry(self.relay.envoy_closed())
        self.to_envoy.clear()
        self.envoy = Envoy()
        self.carry(self.relay.envoy_opened())

    def step(self, refuse: bool = False) -> bool:
        assert self.envoy is not None
        if self.envoy.out:
            self.carry(self.relay.envoy_request(self.envoy.out.popleft()))
        elif self.wanted and not self.plane.open:
            if self.reachable:
                self.plane.connect()
                self.carry(self.relay.upstream_opened())
            else:
                self.carry(self.relay.upstream_closed())
                if self.looks:
                    self.carry(self.relay.file(self.looks.popleft(), self.problem))
                elif self.to_envoy:
                    self.envoy.receive(self.to_envoy.popleft(), refuse)
                else:
                    return False
        elif self.to_plane:
            self.plane.receive(discovery.DeltaDiscoveryRequest.FromString(self.to_plane.popleft()))
            if not self.to_plane:
                self.from_plane.extend(self.plane.push())
        elif self.from_plane:
            self.carry(self.relay.upstream_response(self.from_plane.popleft()))
        elif self.to_envoy:
            self.envoy.receive(self.to_envoy.popleft(), refuse)
        elif self.looks:
            self.carry(self.relay.file(self.looks.popleft(), self.problem))
        else:
            made = self.plane.push() if self.plane.open else []
            self.from_plane.extend(made)
            return bool(made)
        return True

    def settle(self) -> None:
        for _ in range(5000):
            if not self.step():
                return
        raise AssertionError("does not come to rest")

    def expect_converged(self) -> None:
        assert self.envoy is not None
        truth = self.plane.truth
        assert self.envoy.has[CLUSTER] == truth[CLUSTER]
        assert self.envoy.has[LISTENER] == truth[LISTENER]
        for kind, owner in ((ENDPOINT, CLUSTER), (ROUTE, LISTENER)):
            assert self.envoy.has[kind] == {n: v for n, v in truth[kind].items() if n in truth[owner]}


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("set"),
            st.sampled_from((CLUSTER, LISTENER, *NAMED)),
            st.sampled_from(NAMES),
            st.text("123", min_size=1, max_size=1),
        ),
        st.tuples(st.just("remove"), st.sampled_from((CLUSTER, LISTENER, *NAMED)), st.sampled_from(NAMES)),
        st.tuples(st.just("run"), st.integers(1, 9)),
        st.tuples(st.just("refuse"), st.integers(1, 9)),
        st.tuples(st.just("cut"), st.booleans()),
        st.tuples(st.just("file"), st.sampled_from(("", "gone"))),
        st.tuples(st.just("crash")),
        st.tuples(st.just("silent")),
    ),
    max_size=40,
)


@given(steps)
@settings(max_examples=400, deadline=None)
def test_envoy_and_cache_end_with_the_truth(script: list[tuple[object, ...]]) -> None:
    world = World()
    world.start_envoy()
    for what, *rest in script:
        match what:
            case "set":
                world.plane.truth[str(rest[0])][str(rest[1])] = str(rest[2])
            case "remove":
                world.plane.truth[str(rest[0])].pop(str(rest[1]), None)
            case "run" | "refuse":
                for _ in range(int(str(rest[0]))):
                    world.step(what == "refuse")
            case "cut":
                world.reachable = bool(rest[0])
                if world.plane.open:
                    world.drop()
                    world.carry(world.relay.upstream_closed())
            case "file":
                world.file(str(rest[0]))
            case "crash":
                world.start_envoy()
            case _:
                world.carry(world.relay.upstream_silent())
    world.reachable = True
    world.settle()
    world.file("")
    world.settle()
    # A NACK is not repeated by the plane's model until something moves: a reconnect moves everything.
    world.drop()
    world.carry(world.relay.upstream_closed())
    world.settle()
    world.expect_converged()
    for kind in world.envoy.has if world.envoy else ():
        saved = {name: version for name, (version, _) in world.saved.get(kind, {}).items()}
        missing = set(world.envoy.has[kind].items()) - set(saved.items()) if world.envoy else set()
        assert not missing


def full() -> World:
    world = World()
    for kind in world.plane.truth:
        world.plane.truth[kind] = {"a": "1", "b": "1"}
    world.start_envoy()
    world.settle()
    world.expect_converged()
    return world


def test_restart_without_control_plane_serves_the_last_good_configuration() -> None:
    world = full()
    again = World()
    again.plane = world.plane
    again.relay = Relay(world.saved)
    again.reachable = False
    again.start_envoy()
    again.settle()
    again.expect_converged()
    assert again.relay.synced
    assert not again.relay.connected


def test_return_of_the_control_plane_sends_only_differences() -> None:
    world = full()
    world.reachable = False
    world.start_envoy()
    world.settle()
    world.plane.truth[CLUSTER]["a"] = "2"
    del world.plane.truth[ENDPOINT]["b"]
    world.reachable = True
    sent: list[discovery.DeltaDiscoveryResponse] = []
    while world.step():
        sent += [discovery.DeltaDiscoveryResponse.FromString(body) for body in world.to_envoy if body not in sent]
    moved = {(m.type_url, r.name) for m in sent for r in m.resources}
    assert moved == {(CLUSTER, "a")}
    world.expect_converged()


def test_a_cluster_that_is_asked_for_by_name_is_asked_for_on_every_stream() -> None:
    world = full()
    request = discovery.DeltaDiscoveryRequest(type_url=CLUSTER, resource_names_subscribe=["c"])

    def sent(effects: list[object]) -> list[tuple[list[str], list[str]]]:
        found = [discovery.DeltaDiscoveryRequest.FromString(one.body) for one in effects if isinstance(one, ToUpstream)]
        return [
            (list(one.resource_names_subscribe), sorted(one.initial_resource_versions))
            for one in found
            if one.type_url == CLUSTER
        ]

    assert sent(world.relay.envoy_request(request)) == [(["c"], [])]
    # The control plane is replaced before it has answered; the next one must not forget the wildcard.
    world.drop()
    world.relay.upstream_closed()
    assert sent(world.relay.upstream_opened()) == [(["*", "c"], ["a", "b"])]


def test_health_is_repeated_on_every_stream() -> None:
    world = full()
    world.carry(world.relay.health(Unhealthy("probe failed")))
    world.settle()
    assert world.plane.health == ["probe failed"]
    world.drop()
    world.carry(world.relay.upstream_closed())
    world.settle()
    assert world.plane.health == ["probe failed", "probe failed"]
    world.carry(world.relay.health(None))
    world.settle()
    assert world.plane.health[-1] == ""


def remote(version: str, url: str = "http://a.test/m.wasm", always: bool = False) -> discovery.Resource:
    """A configuration `x` that names a module, as the control plane sends it."""
    wasm = Wasm(url, on_failure="FAIL_OPEN", environment=(("A", "b"),), always=always, pull_secret="given")
    origin = Origin(Ref("extensions.istio.io", "WasmPlugin", "n", "x"), SPEC)
    made = extension_resource(Extension(NamespacedName("n", "x"), "WasmPlugin", origin), wasm, PullSecret("hidden"))
    return discovery.Resource(
        name="x", version=version, resource=packed("envoy.config.core.v3.TypedExtensionConfig", made.body)
    )


class Modules:
    """A relay whose Envoy discovers the configuration `x`."""

    def __init__(self, good: dict[str, dict[str, tuple[str, bytes]]] | None = None, *, upstream: bool = True) -> None:
        self.relay = Relay(good or {})
        self.relay.envoy_opened()
        self.did: list[object] = []
        first = discovery.DeltaDiscoveryRequest(type_url=EXTENSION, resource_names_subscribe=["x"])
        first.node.id = "a"
        self.did += self.relay.envoy_request(first)
        self.did += self.relay.upstream_opened() if upstream else self.relay.upstream_closed()

    def respond(self, nonce: str, *resources: discovery.Resource) -> list[object]:
        body = discovery.DeltaDiscoveryResponse(type_url=EXTENSION, nonce=nonce, resources=resources)
        return list(self.relay.upstream_response(body.SerializeToString()))

    def answer(self, nonce: str) -> list[object]:
        return list(self.relay.envoy_request(discovery.DeltaDiscoveryRequest(type_url=EXTENSION, response_nonce=nonce)))


def given(effect: object) -> TypedExtensionConfig:
    assert isinstance(effect, ToEnvoy)
    assert b"hidden" not in effect.body, "credentials are not for Envoy"
    (one,) = discovery.DeltaDiscoveryResponse.FromString(effect.body).resources
    return TypedExtensionConfig.FromString(one.resource.value)


def fetched(effect: object) -> Module:
    assert isinstance(effect, Fetch)
    return effect.module


def test_a_module_is_fetched_before_envoy_hears_of_it() -> None:
    world = Modules()
    (fetch,) = world.respond("1", remote("v1"))
    module = fetched(fetch)
    assert (module.url, module.secret, module.version) == ("http://a.test/m.wasm", "hidden", "")
    # What comes after it waits behind it.
    assert world.respond("2", remote("v2")) == []
    one, two = world.relay.module(module, Ready("/m.wasm"))
    wasm = HttpWasm.FromString(given(one).typed_config.value).config.vm_config
    assert wasm.code.local.filename == "/m.wasm"
    assert dict(wasm.environment_variables.key_values) == {"A": "b"}
    assert given(one) == given(two)
    assert any(isinstance(effect, Save) for effect in world.answer("1"))
    # The cache has what the control plane said, so a restart finds its own way to the module.
    good = {EXTENSION: dict(world.relay.good(EXTENSION))}
    again = Modules(good, upstream=False)
    assert fetched(again.did[-1]) == module
    (served,) = again.relay.module(module, Ready("/elsewhere.wasm"))
    assert b"/elsewhere.wasm" in given(served).typed_config.value


def test_a_missing_module_is_refused_and_made_good() -> None:
    world = Modules()
    module = fetched(world.respond("1", remote("v1", always=True))[0])
    assert module.version == "v1"
    (substitute,) = world.relay.module(module, Failed("no route"))
    assert given(substitute).typed_config.Is(RBAC.DESCRIPTOR)
    (refusal,) = world.answer("1")
    assert isinstance(refusal, ToUpstream)
    said = discovery.DeltaDiscoveryRequest.FromString(refusal.body)
    assert said.error_detail.message == "x: cannot fetch http://a.test/m.wasm: no route"
    assert world.relay.good(EXTENSION) == {}
    assert world.relay.module(module, Failed("still none")) == []
    # The same again is known to be missing; later it is there, and everything is asked for on a new stream.
    assert given(world.respond("2", remote("v1", always=True))[0]).typed_config.Is(RBAC.DESCRIPTOR)
    world.answer("2")
    assert world.relay.module(module, Ready("/m.wasm")) == [OpenUpstream()]
    asked = [
        discovery.DeltaDiscoveryRequest.FromString(one.body)
        for one in world.relay.upstream_opened()
        if isinstance(one, ToUpstream)
    ]
    assert asked[0].initial_resource_versions["x"] == SUBSTITUTED
    assert given(world.respond("1", remote("v1", always=True))[0]).typed_config.Is(HttpWasm.DESCRIPTOR)


def test_without_a_control_plane_a_missing_module_comes_when_it_is_there() -> None:
    one = remote("v1")
    world = Modules({EXTENSION: {"x": ("v1", one.SerializeToString())}}, upstream=False)
    module = fetched(world.did[-1])
    world.relay.module(module, Failed("no route"))
    assert world.answer("cached-1") == []
    assert world.relay.upstream_closed() == [], "it is not served over and over"
    (served,) = world.relay.module(module, Ready("/m.wasm"))
    assert given(served).typed_config.Is(HttpWasm.DESCRIPTOR)
    # Nobody wants it any more.
    world.relay.envoy_request(discovery.DeltaDiscoveryRequest(type_url=EXTENSION, resource_names_unsubscribe=["x"]))
    assert not world.relay.wants(module)
    assert world.relay.module(module, Ready("/m.wasm")) == []


class Files:
    """A relay whose Envoy discovers clusters, and a control plane that sends some."""

    def __init__(self, good: dict[str, dict[str, tuple[str, bytes]]] | None = None, *, upstream: bool = True) -> None:
        self.relay = Relay(good or {})
        self.relay.envoy_opened()
        first = discovery.DeltaDiscoveryRequest(type_url=CLUSTER)
        first.node.id = "a"
        self.did = list(self.relay.envoy_request(first))
        self.did += self.relay.upstream_opened() if upstream else self.relay.upstream_closed()

    def respond(self, nonce: str, removed: tuple[str, ...] = (), **versions: str) -> list[object]:
        body = discovery.DeltaDiscoveryResponse(
            type_url=CLUSTER,
            nonce=nonce,
            resources=[resource(CLUSTER, name, version) for name, version in versions.items()],
            removed_resources=removed,
        )
        return list(self.relay.upstream_response(body.SerializeToString()))

    def answer(self, nonce: str, error: str = "") -> tuple[str, Sequence[object]]:
        """What the control plane hears of a refusal when Envoy has answered, and everything else that is to be done."""
        request = discovery.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=nonce)
        if error:
            request.error_detail.message = error
        done = list(self.relay.envoy_request(request))
        heard = [discovery.DeltaDiscoveryRequest.FromString(one.body) for one in done if isinstance(one, ToUpstream)]
        return "; ".join(one.error_detail.message for one in heard), done


def names_in(effect: object) -> list[str]:
    assert isinstance(effect, ToEnvoy)
    return [one.name for one in discovery.DeltaDiscoveryResponse.FromString(effect.body).resources]


def test_what_names_a_file_waits_until_it_has_been_looked_at() -> None:
    world = Files()
    assert names_in(world.respond("1", a="1", b="1")[0]) == ["a", "b"], "nobody names a file"
    world.answer("1")
    assert world.respond("2", a=FILED) == [Look(ROOTS)]
    assert world.relay.files() == {ROOTS}
    # What comes after it waits behind it.
    assert world.respond("3", b="2") == []
    # Endpoints, too: without those that follow it a changed cluster would warm for ever.
    world.relay.envoy_request(discovery.DeltaDiscoveryRequest(type_url=ENDPOINT, resource_names_subscribe=["a"]))
    endpoints = discovery.DeltaDiscoveryResponse(type_url=ENDPOINT, nonce="4", resources=[resource(ENDPOINT, "a", "1")])
    assert world.relay.upstream_response(endpoints.SerializeToString()) == []
    first, second, third = world.relay.file(ROOTS, "")
    assert (names_in(first), names_in(second), names_in(third)) == (["a"], ["b"], ["a"])
    assert world.relay.files() == {ROOTS}, "Envoy answers late, when clusters warm"
    assert world.answer("2")[0] == ""
    assert world.relay.good(CLUSTER)["a"][0] == FILED
    assert world.relay.files() == {ROOTS}
    # It is looked at anew for every version: it may have gone since.
    world.answer("3")
    assert world.respond("5", a=FILED) == [Look(ROOTS)]


def test_a_resource_without_its_file_is_refused_alone() -> None:
    world = Files()
    world.respond("1", a="1", b="1")
    world.answer("1")
    world.respond("2", a=FILED, b="2")
    (sent,) = world.relay.file(ROOTS, "/roots.pem: gone")
    assert names_in(sent) == ["b"]
    said, done = world.answer("2")
    assert said == "Error adding/updating cluster(s) a: /roots.pem: gone"
    assert Withheld(CLUSTER, "a: /roots.pem: gone") in done
    assert {name: version for name, (version, _) in world.relay.good(CLUSTER).items()} == {"a": "1", "b": "2"}
    # Envoy's own words and ours are one complaint.
    world.respond("3", a=FILED, b="4")
    world.relay.file(ROOTS, "/roots.pem: gone")
    assert world.answer("3", "Error adding/updating cluster(s) b: no")[0].endswith("b: no, a: /roots.pem: gone")
    # It is refused for another reason now: that is said on a new stream.
    assert world.relay.file(ROOTS, "/roots.pem: damaged") == [OpenUpstream()]
    world.relay.upstream_opened()
    world.respond("1", a=FILED)
    world.relay.file(ROOTS, "/roots.pem: damaged")
    assert world.answer("1")[0].endswith("a: /roots.pem: damaged")
    # Put right, everything that is missing is asked for again; of `a` Envoy has what it had.
    assert world.relay.file(ROOTS, "") == [OpenUpstream()]
    asked = next(one for one in world.relay.upstream_opened() if isinstance(one, ToUpstream))
    assert discovery.DeltaDiscoveryRequest.FromString(asked.body).initial_resource_versions["a"] == "1"
    assert world.relay.file(ROOTS, "") == [], "once is enough"


def test_a_first_response_of_nothing_else_still_reaches_envoy() -> None:
    """It would wait for it."""
    world = Files()
    world.respond("1", a=FILED)
    (sent,) = world.relay.file(ROOTS, "gone")
    assert names_in(sent) == []
    assert world.answer("1")[0] == "Error adding/updating cluster(s) a: gone"
    assert world.relay.good(CLUSTER) == {}


def test_without_a_control_plane_a_file_is_waited_for_too() -> None:
    good = {
        CLUSTER: {name: (v, resource(CLUSTER, name, v).SerializeToString()) for name, v in (("a", FILED), ("b", "1"))}
    }
    world = Files(good, upstream=False)
    assert world.did[-1] == Look(ROOTS)
    (sent,) = world.relay.file(ROOTS, "gone")
    assert names_in(sent) == ["b"]
    assert world.answer("cached-1")[0] == ""
    assert world.relay.file(ROOTS, "gone") == []
    assert world.relay.file(ROOTS, "") == [Look(ROOTS)]
    assert names_in(world.relay.file(ROOTS, "")[0]) == ["a"]


def test_a_file_that_goes_later_is_told_and_changes_nothing() -> None:
    world = Files()
    world.respond("1", a=FILED)
    world.relay.file(ROOTS, "")
    world.answer("1")
    assert world.relay.unwell() == []
    assert world.relay.file(ROOTS, "/roots.pem: gone") == []
    assert world.relay.unwell() == ["/roots.pem: gone"]
    # A version that does not name it any more, and one that is removed.
    world.respond("2", a="1")
    world.answer("2")
    assert (world.relay.unwell(), world.relay.files()) == ([], set())
    world.respond("3", a=FILED)
    world.relay.file(ROOTS, "gone")
    world.answer("3")
    assert world.relay.files() == {ROOTS}
    world.respond("4", removed=("a",))
    world.answer("4")
    assert world.relay.files() == set()
