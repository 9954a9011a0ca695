"""Keys of token issuers: how they are fetched, and what the mesh makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp import web
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm

from fairlead.controlplane.fetching import MAX_BYTES, FetchError, KeyFetcher
from fairlead.envoy.jwt import JWT_FILTER, UNKNOWN_KEYS
from fairlead.envoy.resource import LISTENER
from tests.e2e.apps import Certificates

from .running_plane import BASICS, Proxy, obj, service, until, world

KEYS = {"keys": [{**json.loads(UNKNOWN_KEYS)["keys"][0], "kid": "real"}]}
OTHER = {"keys": [{**KEYS["keys"][0], "kid": "other"}]}


class Issuer:
    """A web server that has keys, and other answers."""

    def __init__(self) -> None:
        self.base = ""
        self.keys: Any = KEYS
        self.status = 200
        self.asked = 0

    async def answer(self, request: web.Request) -> web.Response:
        match request.path.strip("/").split("/"):
            case ["keys"]:
                self.asked += 1
                return web.json_response(self.keys, status=self.status)
            case ["hops", number]:
                to = f"/hops/{int(number) - 1}" if int(number) > 1 else "/keys"
                raise web.HTTPFound(to)
            case ["to"]:
                return web.Response(status=307, headers={"Location": request.query["uri"]})
            case ["long"]:
                return web.Response(text=" " * (MAX_BYTES + 1))
            case ["text"]:
                return web.Response(text="hello")
            case ["slow"]:
                await asyncio.sleep(30)
                return web.Response()
            case [".well-known", "openid-configuration"]:
                return web.json_response({"jwks_uri": f"{self.base}/keys"})
            case ["odd", "bracket", ".well-known", "openid-configuration"]:
                return web.json_response({"jwks_uri": "http://[x/"})
            case ["odd", ".well-known", "openid-configuration"]:
                return web.json_response({"jwks_uri": 5})
            case _:
                return web.Response(status=404)


@contextlib.asynccontextmanager
async def issuing(tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Issuer]:
    made = Issuer()
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
    await site.start()
    host, found = runner.addresses[0][:2]
    made.base = f"{'https' if tls else 'http'}://{host}:{found}"
    try:
        yield made
    finally:
        await runner.cleanup()


async def fetched(uri: str, fetcher: KeyFetcher | None = None, patience: float = 5) -> str:
    """The keys, or what is wrong."""
    made = fetcher or KeyFetcher()
    try:
        return await made.fetch(uri, patience)
    except FetchError as error:
        return f"wrong: {error}"
    finally:
        await made.close()


def test_keys_are_fetched_with_care() -> None:
    async def main() -> None:
        async with issuing() as issuer:
            for path in ("/keys", "/hops/1", "/hops/3", "/.well-known/openid-configuration"):
                assert json.loads(await fetched(issuer.base + path)) == KEYS
            wrong = {
                "/hops/4": "more than 3 redirects",
                "/to?uri=ftp://127.0.0.1/": "is not an http or https URL",
                "/to?uri=file:///etc/passwd": "is not an http or https URL",
                "/to?uri=http://[x/": "is no URL",
                "/odd/bracket/.well-known/openid-configuration": "is not an http or https URL",
                "/long": f"longer than {MAX_BYTES} bytes",
                "/text": "not JSON",
                "/none": "HTTP status 404",
                "/odd/.well-known/openid-configuration": "names no jwks_uri",
                "/to?uri=http://127.0.0.1:1/": "cannot connect",
            }
            for path, said in wrong.items():
                found = await fetched(issuer.base + path)
                assert found.startswith("wrong: "), found
                assert said in found
            assert await fetched(f"{issuer.base}/slow", patience=0.05) == "wrong: no answer within 0.05 s"
            issuer.keys = {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}
            assert "no key that tokens can be verified with" in await fetched(f"{issuer.base}/keys")

    uvloop.run(main())


def test_blocked_networks_are_not_asked() -> None:
    """Not by address, not by name, not as IPv4 in IPv6, not by a redirect, not by an issuer's description."""

    async def main() -> None:
        async with issuing() as issuer:
            port = issuer.base.rpartition(":")[2]
            said = "wrong: 127.0.0.1 may not be asked for keys"
            for uri in (
                f"{issuer.base}/keys",
                f"http://localhost:{port}/keys",
                f"http://[::ffff:127.0.0.1]:{port}/keys",
            ):
                found = await fetched(uri, KeyFetcher(("127.0.0.0/8", "::1/128")))
                assert found in (said, "wrong: ::1 may not be asked for keys"), found
            assert issuer.asked == 0
            metadata = "wrong: 169.254.169.254 may not be asked for keys"
            assert await fetched("http://169.254.169.254/latest") == metadata
            assert await fetched(f"{issuer.base}/to?uri=http://169.254.169.254/latest") == metadata

    uvloop.run(main())


def test_certificates_are_verified(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)

    async def main() -> None:
        async with issuing(certificates.server("localhost")) as issuer:
            uri = issuer.base.replace("127.0.0.1", "localhost") + "/keys"
            assert "certificate is not trusted" in await fetched(uri)
            assert json.loads(await fetched(uri, KeyFetcher(ca=certificates.root_file))) == KEYS

    uvloop.run(main())
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("")
    with pytest.raises(OSError, match="no certificates in PEM"):
        KeyFetcher(ca=nothing)


def policy(uri: str, name: str = "tokens") -> dict[str, Any]:
    rules = [{"issuer": "https://issuer.example", "jwksUri": uri}]
    return obj("RequestAuthentication", name, version="security.istio.io/v1", spec={"jwtRules": rules})


def keys_of(proxy: Proxy) -> str:
    """The keys in a proxy's inbound listener; "" where it verifies no tokens."""
    listener = Listener.FromString(proxy.have[LISTENER]["virtualInbound"])
    for chain in listener.filter_chains:
        for one in chain.filters:
            if not one.name.endswith("http_connection_manager"):
                continue
            manager = hcm.HttpConnectionManager.FromString(one.typed_config.value)
            for http in manager.http_filters:
                if http.name == JWT_FILTER:
                    config = JwtAuthentication.FromString(http.typed_config.value)
                    return config.providers["origins-0"].local_jwks.inline_string
    return ""


def kid(proxy: Proxy) -> str:
    return json.loads(keys_of(proxy) or '{"keys": [{"kid": ""}]}')["keys"][0]["kid"]


def test_proxies_get_keys_new_keys_and_keep_the_last_good_ones(tmp_path: Path) -> None:
    state = tmp_path / "state"

    async def first(issuer: Issuer) -> None:
        async with world(state, jwks_refresh=0.1) as made:
            await made.apply(*BASICS, service("cart"))
            async with made.proxy("cart", "cart", LABELS={"app": "cart"}) as proxy:

                def condition(name: str = "tokens") -> str:
                    found = made.condition("RequestAuthentication", name, "KeysFetched")
                    return f"{found.get('status')} {found.get('message')}"

                await made.apply(policy(f"{issuer.base}/keys"))
                await until(lambda: kid(proxy) == "real", "keys")
                await until(lambda: condition() == "True ", "the object says so")
                issuer.keys = OTHER
                await until(lambda: kid(proxy) == "other", "the new keys")
                versions = len(proxy.responses)
                issuer.status = 500
                await until(lambda: condition() == f"False {issuer.base}/keys: HTTP status 500", "the failure is told")
                said = "HTTP status 500; those known before stay in use"

                def findings() -> list[str]:
                    return [one.message for one in made.plane.model.diagnostics() if one.code == "FL0401"]

                await until(lambda: [one.endswith(said) for one in findings()] == [True], "the finding is told")
                await made.apply(policy(f"{issuer.base}/keys", "second"))
                await until(lambda: condition("second").startswith("False"), "others hear of it too")
                await until(lambda: len(proxy.responses) > versions, "the second policy")
                issuer.status = 200
                await until(lambda: condition("second") == "True ", "better now")
                # Neither a failure nor the same keys again are worth a push.
                assert (kid(proxy), len(proxy.responses)) == ("other", versions + 1)

    async def second(uri: str) -> None:
        async with world(state) as made:
            async with made.proxy("cart", "cart", LABELS={"app": "cart"}) as proxy:
                assert kid(proxy) == "other", "what was known survives a restart while nobody answers"
                for name in ("tokens", "second"):
                    await made.api("DELETE", made.path(policy(uri, name)))
                await until(lambda: keys_of(proxy) == "", "no policy, no keys")
            assert json.loads(made.state.keys.read_text()) == {}
            assert made.state.keys.stat().st_mode & 0o777 == 0o600

    async def main() -> None:
        async with issuing() as issuer:
            await first(issuer)
        await second(f"{issuer.base}/keys")

    uvloop.run(main())


def test_who_connects_first_has_keys(tmp_path: Path) -> None:
    """A control plane that knows nothing yet fetches before it serves."""

    async def main() -> None:
        async with issuing() as issuer:
            async with world(tmp_path / "state") as made:
                await made.apply(*BASICS, service("cart"), policy(f"{issuer.base}/keys"))
            made.state.keys.unlink(missing_ok=True)
            again = world(tmp_path / "state")
            async with again as made, made.proxy("cart", "cart", LABELS={"app": "cart"}) as proxy:
                assert kid(proxy) == "real"

    uvloop.run(main())
