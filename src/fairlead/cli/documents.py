"""Reads configuration files: paths, directories and standard input to manifests."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from fairlead.model.manifest import Manifest
from fairlead.model.yaml import YAMLError, parse_documents

_SUFFIXES = (".yaml", ".yml", ".json")


def expand(paths: Iterable[str], *, recursive: bool = False) -> Iterator[str]:
    """The files that paths name: a directory stands for the YAML and JSON files in it, in the order of names."""
    for path in paths:
        at = Path(path)
        if path == "-" or at.is_file():
            yield path
        elif at.is_dir():
            found = sorted(one for one in (at.rglob("*") if recursive else at.iterdir()) if one.suffix in _SUFFIXES)
            if not found:
                raise click.ClickException(f"{path}: no .yaml, .yml or .json file in this directory")
            yield from (str(one) for one in found if one.is_file())
        else:
            raise click.ClickException(f"{path}: no such file or directory")


def read(paths: Iterable[str], *, recursive: bool = False) -> tuple[list[Manifest], list[YAMLError]]:
    """All documents of the files, and the files that are not YAML (the others are read all the same)."""
    manifests: list[Manifest] = []
    errors: list[YAMLError] = []
    for path in expand(paths, recursive=recursive):
        try:
            text = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        except OSError as error:
            raise click.ClickException(f"{path}: {error.strerror}") from None
        try:
            manifests.extend(parse_documents(text, "<stdin>" if path == "-" else path))
        except YAMLError as error:
            errors.append(error)
    return manifests, errors
