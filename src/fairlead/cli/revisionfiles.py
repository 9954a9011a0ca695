"""Manifests of a git revision: `REV:PATH` as git itself reads it, a file or a directory."""

from __future__ import annotations

import shutil
import subprocess

from fairlead.cli.manifests import SUFFIXES, Complaint
from fairlead.model.manifest import Manifest
from fairlead.model.yaml import YAMLError, parse_documents

_SECONDS = 60


class GitError(Exception):
    """Git cannot say what was asked; the text is for people."""


def is_revision(given: str) -> bool:
    """Whether a name may be a path in a revision. A file of this name goes first."""
    return ":" in given and not given.startswith(("-", ":"))


def read(given: str, *, recursive: bool) -> tuple[list[Manifest], list[Complaint]]:
    """The documents of a file or directory as it stood at a revision, and what cannot be read."""
    try:
        files = _files(given, recursive=recursive)
    except GitError as error:
        return [], [Complaint(str(error), file=given)]
    if not files:
        return [], [Complaint("no .yaml, .yml or .json file in this directory; -R looks below it", file=given)]
    out: list[Manifest] = []
    wrong: list[Complaint] = []
    for name, blob in files:
        try:
            out.extend(parse_documents(_git("cat-file", "blob", blob), name))
        except YAMLError as error:
            wrong.append(Complaint(error.message, error.position))
        except GitError as error:
            wrong.append(Complaint(str(error), file=name))
    return out, wrong


def _files(given: str, *, recursive: bool) -> list[tuple[str, str]]:
    """Names and blobs, in the order of names."""
    found = _git("rev-parse", "--verify", "--end-of-options", given).decode().strip()
    if _git("cat-file", "-t", found).strip() == b"blob":
        return [(given, found)]
    listed = _git("ls-tree", "--full-tree", "-z", *(("-r",) if recursive else ()), found).decode("utf-8", "replace")
    above = given if given.endswith((":", "/")) else f"{given}/"
    out: list[tuple[str, str]] = []
    for line in filter(None, listed.split("\0")):
        about, _, name = line.partition("\t")
        _, kind, blob = about.split(" ")
        if kind == "blob" and name.endswith(SUFFIXES):
            out.append((f"{above}{name}", blob))
    return out


def _git(*arguments: str) -> bytes:
    program = shutil.which("git")
    if program is None:
        raise GitError("there is no such file; and to read it from a revision, git is missing")
    try:
        done = subprocess.run([program, *arguments], capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitError(f"git cannot be asked: {error}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().removeprefix("fatal: ").partition("\n")[0]
        raise GitError(f"there is no such file, and git says: {said or f'status {done.returncode}'}")
    return done.stdout
