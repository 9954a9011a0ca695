"""Modules over HTTP and from registries, good and bad; the cache on disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.agent import fetching, ociimage
from fairlead.agent.fetching import Fetcher
from fairlead.agent.modules import Module
from fairlead.agent.modulestore import ModuleStore
from fairlead.agent.ociimage import ModuleError, Reference, credentials_for
from tests.wasm.registry import Registry, docker_config, module, registry, tarred

RAW = "application/vnd.module.wasm.content.layer.v1+wasm"
TAR = "application/vnd.oci.image.layer.v1.tar+gzip"
BODY = module()
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server() -> Iterator[Registry]:
    with registry() as made:
        yield made


def fetch(server: Registry, wanted: Module) -> bytes:
    return asyncio.run(Fetcher(frozenset({server.host})).fetch(wanted))


def why(server: Registry, wanted: Module) -> str:
    with pytest.raises(ModuleError) as error:
        fetch(server, wanted)
    return str(error.value)


def test_plain_http(server: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    base = f"http://{server.host}"
    server.answers |= {"/m.wasm": BODY, "/m.tgz": tarred(BODY), "/m.html": b"<html>"}
    server.redirects |= {"/moved": "/m.wasm", "/round": "/round", "/odd": "file:///etc/passwd"}
    assert fetch(server, Module(f"{base}/m.wasm", SHA)) == BODY
    assert fetch(server, Module(f"{base}/m.tgz")) == BODY
    assert fetch(server, Module(f"{base}/moved")) == BODY
    assert f"is {SHA}, not {'0' * 64}" in why(server, Module(f"{base}/m.wasm", "0" * 64))
    assert "more than 10 redirects" in why(server, Module(f"{base}/round"))
    assert "redirects from http to file" in why(server, Module(f"{base}/odd"))
    assert "neither a module" in why(server, Module(f"{base}/m.html"))
    assert "answered 404" in why(server, Module(f"{base}/none"))
    monkeypatch.setattr(fetching, "MAX_MODULE_BYTES", 64)
    assert "more than 64 bytes" in why(server, Module(f"{base}/m.wasm"))


def test_files(tmp_path: Path, server: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.wasm"
    file.write_bytes(BODY)
    assert fetch(server, Module(f"file://{file}", SHA)) == BODY
    assert f"the sha256 of the file is {SHA}, not {'0' * 64}" in why(server, Module(f"file://{file}", "0" * 64))
    assert "there is no file" in why(server, Module(f"file://{tmp_path}/none.wasm", SHA))
    assert "there is no file" in why(server, Module(f"file://{tmp_path}", SHA))
    monkeypatch.setattr(fetching, "MAX_MODULE_BYTES", 64)
    assert "more than 64 bytes" in why(server, Module(f"file://{file}", SHA))


def test_images(server: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    base = f"oci://{server.host}"
    found = server.put("plugin", BODY, RAW, "latest")
    server.put("tar", tarred(BODY), TAR, index=True)
    server.put("other", tarred(BODY, "else.wasm"), TAR)
    assert fetch(server, Module(f"{base}/plugin")) == BODY
    assert fetch(server, Module(f"{base}/plugin@{found}")) == BODY
    assert fetch(server, Module(f"{base}/plugin:latest", found.removeprefix("sha256:"))) == BODY
    assert fetch(server, Module(f"{base}/tar:1")) == BODY
    assert "no plugin.wasm" in why(server, Module(f"{base}/other:1"))
    assert "sha256 field says" in why(server, Module(f"{base}/plugin@{found}", "0" * 64))
    assert f"not {'0' * 64}" in why(server, Module(f"{base}/plugin", "0" * 64))
    blob = next(path for path in server.answers if path.startswith("/v2/plugin/blobs/"))
    server.answers[blob] = BODY[:-1] + b"!"
    assert "the sha256 of what the registry sent" in why(server, Module(f"{base}/plugin"))
    monkeypatch.setattr(ociimage, "MAX_MODULE_BYTES", 64)
    assert "larger than 64 bytes" in why(server, Module(f"{base}/plugin"))


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_logins(server: Registry, auth: str) -> None:
    server.auth = auth
    server.put("plugin", BODY, RAW)
    login = docker_config(server.host)
    with registry() as elsewhere:
        blob = next(path for path in server.answers if "/blobs/" in path)
        elsewhere.answers["/blob"] = server.answers.pop(blob)
        server.redirects[blob] = f"http://{elsewhere.host}/blob"
        assert fetch(server, Module(f"oci://{server.host}/plugin:1", secret=login)) == BODY
        assert elsewhere.logins == [("/blob", "")], "credentials stay with the registry"
    for bad in ("", docker_config("other.test")):
        said = why(server, Module(f"oci://{server.host}/plugin:1", secret=bad))
        assert ("token server answered 401" if auth == "bearer" else "no credentials for it") in said
    assert "secret-word" not in repr(Module("oci://a/b", secret=login))


def test_tls_unless_named_as_insecure(server: Registry) -> None:
    server.put("plugin", BODY, RAW)
    with pytest.raises(ModuleError):
        asyncio.run(Fetcher().fetch(Module(f"oci://{server.host}/plugin:1")))
    assert server.asked == []


def test_references_and_keys() -> None:
    assert Reference.parse("oci://a.test/b/c") == Reference("a.test", "b/c", "latest")
    for wrong in ("oci://a.test", "oci://a.test/B", "oci://a.test/b@sha256:1", "oci://a.test/b:", "oci://a b/c"):
        with pytest.raises(ModuleError):
            Reference.parse(wrong)
    config = '{"auths": {"https://a.test/v2/": {"username": "u", "password": "p"}, "a.test/b": {"auth": "eDp5"}}}'
    assert credentials_for(config, Reference.parse("oci://a.test/b/c")) == ("x", "y")
    assert credentials_for(config, Reference.parse("oci://a.test/bc")) == ("u", "p")
    assert credentials_for(config, Reference.parse("oci://a.test.evil/b")) is None


def test_the_cache(server: Registry, tmp_path: Path) -> None:
    wanted = Module(f"http://{server.host}/m.wasm")
    second = Module(f"http://{server.host}/n.wasm")
    server.answers |= {"/m.wasm": BODY, "/n.wasm": BODY + b"\x00\x01\x00"}
    where = tmp_path / "modules"

    async def get(one: Module, max_bytes: int = 1 << 20) -> Path:
        return Path(await ModuleStore(where, Fetcher(), max_bytes).get(one))

    path = asyncio.run(get(wanted))
    assert (path.read_bytes(), path.name) == (BODY, f"{SHA}.wasm")
    assert [stat.S_IMODE(one.stat().st_mode) for one in (where, path)] == [0o700, 0o600]
    assert asyncio.run(get(wanted)) == path
    assert server.asked == ["/m.wasm"], "a new store knows what the old one had"
    # A new version of a configuration that always asks: once, and in need what was there before does.
    fresh = Module(wanted.url, version="v1")
    for _ in range(2):
        assert asyncio.run(get(fresh)) == path
    assert server.asked == ["/m.wasm"] * 2
    del server.answers["/m.wasm"]
    assert asyncio.run(get(Module(wanted.url, version="v2"))) == path
    # Damage is noticed, and then there is no module.
    path.write_bytes(b"\0asm")
    with pytest.raises(ModuleError, match="404"):
        asyncio.run(get(wanted))
    server.answers["/m.wasm"] = BODY
    assert asyncio.run(get(wanted)).read_bytes() == BODY
    # Too much: what was not used for longest goes.
    os.utime(path, (1, 1))
    other = asyncio.run(get(second, len(BODY) + 8))
    assert (other.exists(), path.exists()) == (True, False)
