"""Extras: what each is for, nothing of them at import, and one line with the command where one is missing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

import mixrag
from mixrag.errors import MissingPackageError
from mixrag.utils.extras import EXTRAS, missing_package, require, require_extra

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
SOURCES = Path(mixrag.__file__).parent
DECLARED: dict[str, list[str]] = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
PACKAGES = {module.split(".")[0] for modules in EXTRAS.values() for module in modules}

ELSEWHERE = {"vllm"}
"""Extras that are not installed beside the others: vLLM brings a torch of its own."""


def named(requirement: str) -> str:
    return re.split(r"[<>=\[ ;]", requirement)[0].lower()


def test_the_list_of_modules_is_that_of_pyproject() -> None:
    assert set(EXTRAS) == set(DECLARED) - {"all", "models", "multilingual", "dev", "docs"}
    distributions = packages_distributions()
    for extra, modules in EXTRAS.items():
        if extra in ELSEWHERE:
            assert [named(each) for each in DECLARED[extra]] == [*modules]
            continue
        installed = {
            name.lower().replace("_", "-") for module in modules for name in distributions[module.split(".")[0]]
        }
        assert {named(each) for each in DECLARED[extra]} <= installed
        assert len(DECLARED[extra]) == len(modules)


def test_all_is_all_but_the_frameworks() -> None:
    assert DECLARED["all"] == ["mixrag[files,train,eval,server]"]


def test_no_package_of_an_extra_is_imported_when_a_module_is() -> None:
    # Their modules are imported where they are asked for.
    own = {SOURCES / "integrations", SOURCES / "server", SOURCES / "corpus" / "store" / "postgres"}
    files = [path for path in SOURCES.rglob("*.py") if not own & {*path.parents}]
    assert len(files) > 100
    for file in files:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not PACKAGES & {name.split(".")[0] for name in names}, f"{file.name} imports {names}"


@pytest.mark.parametrize(("extra", "module"), [(e, m) for e, modules in EXTRAS.items() for m in modules])
def test_each_missing_package_is_one_line_with_the_command(
    extra: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = module.split(".")[0]
    for name in [package, *(each for each in sys.modules if each.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError) as caught:
        require_extra(extra, "a test")
    expected = (
        f'expected the package {package} for a test; found it is not installed; run: pip install "mixrag[{extra}]"'
    )
    assert str(caught.value) == expected


def test_a_package_that_is_there_but_broken_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_there.py").write_text("import a_package_of_its_own")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_of_its_own"):
        require("half_there", "files", "a test")


@pytest.mark.parametrize(
    ("name", "package", "shown", "extra"),
    [
        ("langchain", "langchain_core", "langchain-core", "langchain"),
        ("llama_index", "llama_index", "llama-index-core", "llama-index"),
        ("haystack", "haystack", "haystack-ai", "haystack"),
    ],
)
def test_an_integration_without_its_framework(name: str, package: str, shown: str, extra: str) -> None:
    script = f"import sys; sys.modules[{package!r}] = None; import mixrag.integrations.{name}"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode == 1
    assert last.endswith(str(missing_package(shown, extra, f"mixrag.integrations.{name}")))


def test_installed_packages_are_what_they_are() -> None:
    found: Any = require("lxml.html", "files", "a test")
    assert found.__name__ == "lxml.html"
