"""Capture rules in a real kernel with a real Envoy: what comes in and goes out passes through it. Needs root."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairlead.cli.capture import capture
from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.ir.view import View
from fairlead.model.launch import AppPort, Capture
from fairlead.model.yaml import parse_documents
from tests.node.pod import Pod, ip

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and ip")
PLAIN = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: app}
spec: {mtls: {mode: DISABLE}}
"""
APP = AppPort(8080, "http")


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    try:
        made = Pod(tmp_path)
    except RuntimeError as error:
        pytest.skip(f"no network namespaces here: {error}")
    try:
        yield made
    finally:
        made.close()


def test_what_comes_in_and_goes_out_passes_through_envoy(pod: Pod) -> None:
    chosen = (
        "inbound-ports-include=*",
        "inbound-ports-exclude=8081",
        "outbound-ip-ranges-include=*",
        "outbound-ports-exclude=9001",
        "exclude-interfaces=nowhere",
    )
    options = [part for one in chosen for part in ("--set", one)]
    done = CliRunner().invoke(capture, ["rules", *options, "--apply", pod.name])
    assert done.exit_code == 0, done.output
    pod.envoy()
    for where, name, ports in ((pod.name, "app", (8080, 8081)), (pod.world, "world", (9000, 9001))):
        for port in ports:
            pod.serve(where, name, port)
    # In: from the rest of the world to the application, by the proxy's own address; not the port that is left out.
    assert pod.ask(pod.world, pod.address, 8080) == ("app saw 127.0.0.6", "inbound")
    assert pod.ask(pod.world, pod.address, 8081) == (f"app saw {pod.outside}", None)
    # Out: what the application calls; not the port that is left out, nor its own loopback.
    assert pod.ask(pod.name, pod.outside, 9000) == (f"world saw {pod.address}", "outbound")
    assert pod.ask(pod.name, pod.outside, 9001) == (f"world saw {pod.address}", None)
    assert pod.ask(pod.name, "127.0.0.1", 8080) == ("app saw 127.0.0.1", None)
    # Applied again with less: the tables are replaced.
    done = CliRunner().invoke(capture, ["rules", "--set", "inbound-ports-include=8081", "--apply", pod.name])
    assert done.exit_code == 0, done.output
    assert pod.ask(pod.world, pod.address, 8080) == (f"app saw {pod.outside}", None)
    assert pod.ask(pod.world, pod.address, 8081) == ("app saw 127.0.0.6", "inbound")


def test_the_application_sees_the_callers_address_with_tproxy(pod: Pod) -> None:
    chosen = ("inbound-ports-include=*", "outbound-ip-ranges-include=*", "inbound-interception-mode=TPROXY")
    options = [part for one in chosen for part in ("--set", one)]
    done = CliRunner().invoke(capture, ["rules", *options, "--apply", pod.name])
    assert done.exit_code == 0, done.output
    # The routing that is the host's to make: packets with the mark are this namespace's own.
    ip("-n", pod.name, "rule", "add", "fwmark", "1337", "lookup", "133")
    ip("-n", pod.name, "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "133")
    model = MeshModel()
    load(model, parse_documents(PLAIN, "plain.yaml"))
    capturing = Capture("redirect", transparent=True)
    pod.envoy(model.compile(View("sidecar", "app", addresses=(pod.address,), ports=(APP,), capture=capturing)))
    pod.serve(pod.name, "app", 8080)
    pod.serve(pod.world, "world", 9000)
    pod.serve(pod.name, "other", 8081)
    # Where nothing listens, TPROXY leaves connections alone: at first they come without Envoy.
    assert pod.ask(pod.world, pod.address, 8080, "envoy") == (f"app saw {pod.outside}", "envoy")
    assert pod.ask(pod.world, pod.address, 8081) == (f"other saw {pod.outside}", "envoy")
    assert pod.ask(pod.name, pod.outside, 9000) == (f"world saw {pod.address}", "outbound")


@pytest.mark.parametrize(
    "chosen",
    [
        ("inbound-ports-include=80,90", "inbound-interception-mode=TPROXY", "enable-ipv6=true", "drop-invalid=true"),
        ("redirect-dns=true", "capture-all-dns=true", "enable-ipv6=true"),
        (
            "redirect-dns=true",
            "dns-servers-v4=127.0.0.53",
            "owner-groups-include=0,202",
            "exclude-interfaces=a",
        ),
        ("outbound-ip-ranges-include=10.0.0.0/8,2001:db8::/32", "outbound-ip-ranges-exclude=10.1.0.0/16"),
    ],
)
def test_the_kernel_takes_every_sort_of_rule(pod: Pod, chosen: tuple[str, ...]) -> None:
    options = [part for one in chosen for part in ("--set", one)]
    done = CliRunner().invoke(capture, ["rules", *options, "--apply", pod.name])
    assert done.exit_code == 0, done.output


def test_settings_that_mean_nothing_are_refused_with_the_nearest_name() -> None:
    for chosen, said in (
        ("inbound-port-include=80", "Did you mean 'inboundPortsInclude'"),
        ("inbound-ports-include=80,x", "'x' is not a port"),
        ("outbound-ip-ranges-include=10.0.0.0", "is not a network"),
        ("exclude-interfaces=a;b", "is not the name of a network interface"),
        ("proxy-uid=1337 counter drop", "is not a number or a name"),
        ("host-ipv4-loopback-cidr=192.168.1.1/24", "is not within 127.0.0.0/8"),
        ("host-ipv4-loopback-cidr=127.0.0.1/7", "is not within 127.0.0.0/8"),
        ("owner-groups-include=" + ",".join(map(str, range(65))), "65 groups are more than 64"),
    ):
        done = CliRunner().invoke(capture, ["rules", "--set", chosen])
        assert done.exit_code == 1
        assert said in done.output
        assert "FL2600" in done.output


def test_annotations_of_a_pod_add_to_what_the_injector_asks_for(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(
        """
kind: Pod
metadata:
  annotations:
    istio.io/reroute-virtual-interfaces: eth1
    traffic.sidecar.istio.io/kubevirtInterfaces: eth2
    traffic.sidecar.istio.io/excludeInboundPorts: "8080, 15020"
    traffic.sidecar.istio.io/excludeOutboundPorts: 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16
"""
    )
    done = CliRunner().invoke(capture, ["rules", "-f", str(file), "--format", "iptables"])
    lines = done.output.splitlines()
    first = ",".join(str(port) for port in range(1, 16))
    assert "-A ISTIO_INBOUND -p tcp -m multiport --dports 8080,15020,15090,15021 -j RETURN" in lines
    assert [line for line in lines if line.startswith("-I PREROUTING")] == [
        "-I PREROUTING 1 -i eth1 -j RETURN",
        "-I PREROUTING 1 -i eth1 -j ISTIO_REDIRECT",
    ]
    assert [line for line in lines if line.startswith("-A ISTIO_OUTPUT -p") and "-o lo" not in line] == [
        f"-A ISTIO_OUTPUT -p tcp -m multiport --dports {first} -j RETURN",
        f"-A ISTIO_OUTPUT -p udp -m multiport --dports {first} -j RETURN",
        "-A ISTIO_OUTPUT -p tcp --dport 16 -j RETURN",
        "-A ISTIO_OUTPUT -p udp --dport 16 -j RETURN",
    ]
