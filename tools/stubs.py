"""Write type stubs for the protobuf modules that Fairlead imports, from the descriptors that those modules carry.

Usage: python tools/stubs.py DIRECTORY. The xds-protos wheel ships no stubs; mypy-protobuf makes them from descriptors.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.compiler import plugin_pb2

ROOT = Path(__file__).resolve().parent.parent


def imported_modules() -> set[str]:
    """Names of the `_pb2` modules of other packages that any source file imports."""
    found: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.update(f"{node.module}.{name.name}" for name in node.names if name.name.endswith("_pb2"))
            elif isinstance(node, ast.Import):
                found.update(name.name for name in node.names if name.name.endswith("_pb2"))
    return {name for name in found if not name.startswith("fairlead.")}


def closure(modules: set[str]) -> list[descriptor_pb2.FileDescriptorProto]:
    """Descriptors of the modules' files and of everything that these import, dependencies first."""
    done: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(name: str) -> None:
        if name in done:
            return
        file = descriptor_pool.Default().FindFileByName(name)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        for dependency in proto.dependency:
            add(dependency)
        done[name] = proto

    for module in sorted(modules):
        add(importlib.import_module(module).DESCRIPTOR.name)
    return list(done.values())


def main() -> None:
    out = Path(sys.argv[1])
    files = closure(imported_modules())
    request = plugin_pb2.CodeGeneratorRequest(proto_file=files)
    request.file_to_generate.extend(
        file.name for file in files if not file.name.startswith(("google/protobuf/", "google/rpc/"))
    )
    request.file_to_generate.extend(file.name for file in files if file.name.startswith("google/rpc/"))
    plugin = Path(sys.executable).parent / "protoc-gen-mypy"
    made = subprocess.run([plugin], input=request.SerializeToString(), capture_output=True, check=True)
    response = plugin_pb2.CodeGeneratorResponse.FromString(made.stdout)
    if response.error:
        sys.exit(response.error)
    packages: set[Path] = set()
    for file in response.file:
        path = out / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.content)
        packages.update(parent for parent in path.relative_to(out).parents if parent.name)
    packages.discard(Path("google"))  # a namespace: types-protobuf has the rest of it
    for package in packages:
        (out / package / "__init__.pyi").touch()
    print(f"{len(response.file)} stubs in {out}")


if __name__ == "__main__":
    main()
