"""Out of the mesh through an egress gateway, as Istio's tasks set it up; and servers beside HTTP and HTTPS."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

from tests.e2e.apps import App
from tests.e2e.conftest import World
from tests.e2e.mesh import eventually, lines, request
from tests.loopback import free_port

EGRESS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: app}
spec:
  hosts: [outside.example]
  location: MESH_EXTERNAL
  ports: [{number: 18480, name: http, protocol: HTTP, targetPort: OUTSIDE}, {number: OUTSIDE, name: tls, protocol: TLS}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: v1
kind: Service
metadata: {name: egress, namespace: edge}
spec: {selector: {istio: ingressgateway}, ports: [{name: https, port: 18481}, {name: tls, port: 18482}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: egress, namespace: edge}
spec: {address: GATEWAY, labels: {istio: ingressgateway}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 18481, name: https, protocol: HTTPS}
      bind: GATEWAY
      hosts: [outside.example]
      tls: {mode: ISTIO_MUTUAL}
    - port: {number: 18482, name: tls, protocol: TLS}
      bind: GATEWAY
      hosts: [outside.example]
      tls: {mode: PASSTHROUGH}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: egress, namespace: app}
spec:
  host: egress.edge.svc.cluster.local
  subsets:
    - name: outside
      trafficPolicy:
        portLevelSettings: [{port: {number: 18481}, tls: {mode: ISTIO_MUTUAL, sni: outside.example}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: outside, namespace: app}
spec:
  host: outside.example
  trafficPolicy:
    portLevelSettings: [{port: {number: 18480}, tls: {mode: SIMPLE, caCertificates: ROOT, sni: outside.example}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: outside, namespace: app}
spec:
  hosts: [outside.example]
  gateways: [mesh, edge/egress]
  http:
    - match: [{gateways: [mesh], port: 18480}]
      route: [{destination: {host: egress.edge.svc.cluster.local, subset: outside, port: {number: 18481}}}]
    - match: [{gateways: [edge/egress], port: 18481}]
      route: [{destination: {host: outside.example, port: {number: 18480}}}]
  tls:
    - match: [{gateways: [mesh], port: OUTSIDE, sniHosts: [outside.example]}]
      route: [{destination: {host: egress.edge.svc.cluster.local, port: {number: 18482}}}]
    - match: [{gateways: [edge/egress], port: 18482, sniHosts: [outside.example]}]
      route: [{destination: {host: outside.example, port: {number: OUTSIDE}}}]
"""


def test_an_egress_gateway_originates_tls_and_passes_it_on(world: World) -> None:
    port = free_port()
    app = App("outside", "127.0.0.1").serve_tls(port, world.certificates.server("outside.example"))
    text = EGRESS.replace("OUTSIDE", str(port)).replace("ROOT", str(world.certificates.root_file))

    def passed(number: int) -> int:
        return world.gateway.stat(f"listener.{world.gateway.address}_{number}.downstream_cx_total")

    try:
        with world.mesh.config(text):
            # The application speaks HTTP, the mesh its own TLS to the gateway, the gateway TLS to the outside.
            found = eventually(
                lambda: (one := world.client.get("outside.example:18480", proxied=True)).status == 200 and one
            )
            assert found.instance == "outside"
            assert "URI=spiffe://cluster.local/ns/app/sa/client" in found.body["headers"]["x-forwarded-client-cert"]
            assert passed(18481) >= 1
            # The application's own TLS goes through as it is.
            tls = world.certificates.client()
            found = eventually(
                lambda: request(world.client.out, port, host="outside.example", tls=tls, sni="outside.example")
            )
            assert found.instance == "outside" and passed(18482) >= 1
    finally:
        app.close()


SERVERS = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: app}
spec: {selector: {app: echo, version: v1}, ports: [{name: mysql, port: 19333}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: odd, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 18491, name: tls, protocol: TLS}
      bind: GATEWAY
      hosts: [term.example]
      tls: {mode: SIMPLE, credentialName: term}
    - {port: {number: 18492, name: mysql, protocol: MYSQL}, bind: GATEWAY, hosts: ["*"]}
    - {port: {number: 18493, name: mongo, protocol: MONGO}, bind: GATEWAY, hosts: ["*"]}
    - port: {number: 18494, name: http, protocol: HTTP}
      bind: GATEWAY
      hosts: [app/one.odd, other/two.odd, ./three.odd]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: term, namespace: app}
spec:
  hosts: [term.example]
  gateways: [edge/odd]
  tcp: [{match: [{port: 18491}], route: [{destination: {host: db, port: {number: 19333}}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bytes, namespace: app}
spec:
  hosts: ["*"]
  gateways: [edge/odd]
  tcp:
    - {match: [{port: 18492}], route: [{destination: {host: db, port: {number: 19333}}}]}
    - {match: [{port: 18493}], route: [{destination: {host: echo, port: {number: 19000}}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: names, namespace: app}
spec:
  hosts: [one.odd, two.odd, three.odd]
  gateways: [edge/odd]
  http: [{route: [{destination: {host: echo, port: {number: 18080}}}]}]
---
"""


def test_servers_of_other_protocols_and_hosts_of_one_namespace(world: World) -> None:
    address = world.gateway.address
    cert, key = world.certificates.issue("term.example")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "term", "namespace": "edge"}}
    secret |= {"type": "kubernetes.io/tls", "stringData": {"tls.crt": cert, "tls.key": key}}
    app = App("greets", world.echo1.app).serve_greeting(19333)

    def greeted(port: int, *, tls: bool = False) -> str:
        """What a server that speaks first says, and answers."""
        with ExitStack() as stack:
            stream = stack.enter_context(socket.create_connection((address, port), timeout=5))
            if tls:
                context = world.certificates.client()
                stream = stack.enter_context(context.wrap_socket(stream, server_hostname="term.example"))
            got = stack.enter_context(stream.makefile("rb"))
            greeting = got.readline()
            stream.sendall(b"x\n")
            return (greeting + got.readline()).decode()

    try:
        with world.mesh.config(SERVERS + json.dumps(secret)):
            assert eventually(lambda: greeted(18491, tls=True)) == "welcome to greets\ngreets x\n"
            assert eventually(lambda: greeted(18492)) == "welcome to greets\ngreets x\n"
            assert lines(address, 18493, "hello").endswith(" hello")
            # Only one of the names is for VirtualServices of their namespace.
            found = {name: request(address, 18494, host=f"{name}.odd").status for name in ("one", "two", "three")}
            assert found == {"one": 200, "two": 404, "three": 404}
    finally:
        app.close()
