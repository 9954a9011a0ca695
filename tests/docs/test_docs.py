"""The documentation agrees with the program: pages of kinds, links, and the names of files and commands."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from fairlead.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("samples/**/*.md"))
    if ".venv" not in path.parts
)


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As for a script: what stands beside it can be imported.
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(ROOT / "tools"))
        spec.loader.exec_module(module)
    return module


def test_the_pages_of_faults_are_up_to_date() -> None:
    assert tool("troubledocs").out_of_date() == []


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_pages_of_kinds_are_up_to_date() -> None:
    assert tool("kinddocs").out_of_date() == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file) if file else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page: Path) -> None:
    for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for command in re.findall(r"^(?:\$ )?(?:\.venv/bin/)?fairlead ([a-z-]+)", block, re.MULTILINE):
            assert command in COMMANDS, command


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_commands_name_exist(page: Path) -> None:
    for file in re.findall(r"samples/shop/[\w/.-]+\.\w+", page.read_text()):
        assert (ROOT / file).is_file(), file


def test_each_policy_of_the_shop_is_described() -> None:
    text = (ROOT / "samples" / "shop" / "README.md").read_text()
    policies = {path.name for path in (ROOT / "samples" / "shop" / "policies").glob("*.yaml")}
    assert {one for one in policies if f"`{one}`" not in text} == set()


def test_each_dependency_has_its_line() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    text = (ROOT / "docs" / "dependencies.md").read_text()
    assert [one for one in (re.split(r"[<>=]", line)[0] for line in wanted) if one not in text] == []
