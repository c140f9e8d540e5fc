"""pyproject.toml is the truth for dependencies; the lock, environment.yml and the code's own imports agree with it."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
CONDA_TO_PYPI = {"pytorch": "torch", "typst-py": "typst"}
ONLY_WITH_CUDA = re.compile(r"nvidia-|cuda-|triton$")  # torch pins these itself, where its build has CUDA


def by_name(lines: Iterable[str]) -> dict[str, Requirement]:
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


RUN = by_name(PROJECT["dependencies"])
DEV = by_name(PROJECT["optional-dependencies"]["dev"])
BUILD = by_name(PYPROJECT["build-system"]["requires"])


def lock() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return by_name(line for line in lines if not line.startswith("#"))


def pinned_version(pin: Requirement) -> Version:
    (specifier,) = pin.specifier
    assert specifier.operator == "==", f"{pin} is not pinned"
    return Version(specifier.version)


def needed(requirements: Iterable[Requirement]) -> set[str]:
    """Names of all installed packages that `requirements` lead to, themselves included, on this platform."""
    found: set[tuple[str, str]] = set()
    todo = [(requirement, extra) for requirement in requirements for extra in {"", *requirement.extras}]
    while todo:
        requirement, extra = todo.pop()
        key = (canonicalize_name(requirement.name), extra)
        if key in found or ONLY_WITH_CUDA.match(key[0]):
            continue
        found.add(key)
        for dependency in map(Requirement, metadata.requires(requirement.name) or []):
            if dependency.marker is None or dependency.marker.evaluate({"extra": extra}):
                todo += [(dependency, e) for e in {"", *dependency.extras}]
    return {name for name, _ in found}


def test_every_pin_satisfies_pyproject():
    pins = lock()
    for name, requirement in (RUN | DEV | BUILD).items():
        assert name in pins, f"{name} is missing in requirements.lock: run `make lock`"
        assert requirement.specifier.contains(pinned_version(pins[name])), f"{pins[name]} does not satisfy {requirement}"


def test_lock_installs_anywhere():
    """No URL, option or CUDA package; no local version such as 2.13.0+cpu, which only one index has."""
    for name, pin in lock().items():
        assert pin.url is None
        assert not ONLY_WITH_CUDA.match(name)
        assert pinned_version(pin).local is None
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_lock_is_complete_and_holds_nothing_else():
    pins = lock()
    installed = {name: Version(metadata.version(name)).public for name in pins}
    if any(pinned_version(pin).public != installed[name] for name, pin in pins.items()):
        pytest.skip("this environment was not made from requirements.lock")
    assert set(pins) == needed((RUN | DEV | BUILD).values())


def test_installed_versions_satisfy_pyproject():
    for name, requirement in (RUN | DEV).items():
        assert requirement.specifier.contains(metadata.version(name)), f"{name} {metadata.version(name)}: {requirement}"
    assert SpecifierSet(PROJECT["requires-python"]).contains(".".join(map(str, sys.version_info[:3])))


def test_environment_yml_equals_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    conda = by_name(line for line in environment["dependencies"] if isinstance(line, str))
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip[-1] == "-e ."
    assert conda.pop("python").specifier == SpecifierSet(PROJECT["requires-python"])
    assert not conda.pop("pip").specifier
    listed = {CONDA_TO_PYPI.get(name, name): line.specifier for name, line in (conda | by_name(pip[:-1])).items()}
    assert listed == {name: requirement.specifier for name, requirement in (RUN | DEV).items()}


def test_ruff_and_mypy_check_for_the_oldest_python():
    assert PROJECT["requires-python"].split(",")[0] == f">={PYPROJECT['tool']['mypy']['python_version']}"
    assert "target-version" not in PYPROJECT["tool"]["ruff"]  # ruff then takes requires-python


@pytest.mark.parametrize("version", ["3.10.13", "3.11.0", "3.12.1", "3.13.9", "3.14.0"])
def test_a_python_that_does_not_work_is_refused_in_one_line(tmp_path: Path, version: str) -> None:
    """By the Makefile as by the metadata: a fake interpreter of each version is asked."""
    asked = f"import sys; sys.version_info = {tuple(map(int, version.split('.')))}; sys.argv.pop(0); exec(sys.argv[1])"
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{asked}' \"$@\"\n")
    python.chmod(0o755)
    makefile = (ROOT / "Makefile").read_text() + "\ncheck:\n\t$(require_python)\n"
    (tmp_path / "Makefile").write_text(makefile)
    done = subprocess.run(["make", "check", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True)
    works = SpecifierSet(PROJECT["requires-python"]).contains(version)
    assert (done.returncode == 0) == works
    complaint = f'error: "{python}" is not Python 3.11, 3.12 or 3.13; name one that is: make PYTHON=/path/to/python3.11'
    assert done.stderr.splitlines()[:1] == ([] if works else [complaint])


def imported_modules(folder: str) -> Iterator[str]:
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module


@pytest.mark.parametrize(("folder", "declared"), [("src", RUN), ("experiments", RUN), ("notebooks", RUN), ("tests", RUN | DEV)])
def test_every_import_is_a_declared_dependency(folder, declared):
    distributions = metadata.packages_distributions()
    own = {"dpm", "__future__"} | {path.stem for here in (folder, "benchmarks") for path in (ROOT / here).glob("*")}
    for module in {name.split(".")[0] for name in imported_modules(folder)} - own - sys.stdlib_module_names:
        names = {canonicalize_name(name) for name in distributions.get(module, [])}
        assert names & set(declared), f"{folder}/ imports {module}, which pyproject.toml does not list"


def test_licence_and_citation():
    licence = (ROOT / "LICENSE").read_text()
    assert licence.startswith("MIT License\n\nCopyright (c) ")
    assert PROJECT["license"] == "MIT"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["version"] == PROJECT["version"] == metadata.version(PROJECT["name"])
    assert citation["license"] == PROJECT["license"]
    cited = {identifier["value"] for reference in citation["references"] for identifier in reference["identifiers"]}
    assert cited == {"arXiv:1503.03585", "arXiv:2006.11239"}


def tracked_texts() -> Iterator[tuple[str, str]]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listing.split("\0")):
        path = ROOT / name
        content = path.read_bytes() if path.is_file() else b""
        if b"\0" not in content:
            yield name, content.decode("utf-8")


def test_no_tracked_file_names_a_folder_of_one_machine():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: no list of tracked files")
    home = re.compile(r"(?<![\w.])/(?:home|root|work|Users)/\w")
    found = [f"{name}: {match.group()}" for name, text in tracked_texts() for match in home.finditer(text)]
    assert not found, "absolute paths of one machine, make them relative: " + ", ".join(found)


def test_what_git_tracks_stays_small():
    """A clone is a short download: weights that train again in minutes, or that no command needs, are not kept."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout")
    sizes = {name: (ROOT / name).stat().st_size for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
    largest = sorted(sizes, key=sizes.__getitem__)[-5:]
    assert sum(sizes.values()) <= 48 * 2**20, f"the largest: {', '.join(largest)}"
