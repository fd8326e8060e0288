"""What others wrote and we carry or check with: pinned for CI, and listed in the wheel."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="reads pyproject.toml on Python 3.10")

ROOT = Path(__file__).parents[1]
# Left out by .ci/pin: which files fit depends on the machine.
MACHINE = ("torch", "nvidia", "triton", "tensorrt", "cuda")


def pins() -> dict[str, list[str]]:
    """Hashes by package."""
    text = (ROOT / ".ci/requirements.txt").read_text()
    hashes: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=[a-z0-9])", text):
        name = re.match(r"([a-z0-9._-]+)==[\w.]+", block)
        assert name is not None, block[:80]
        hashes.setdefault(name[1], []).extend(re.findall(r"--hash=sha256:[0-9a-f]{64}", block))
    return hashes


def test_every_dependency_of_the_checks_is_pinned_by_hash() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    chosen = re.findall(r"[a-z0-9]+", extras["dev"][0].split("[")[1])
    wanted = [*project["dependencies"], *extras["dev"][1:], *(one for name in chosen for one in extras[name])]
    names = {re.split(r"[\[<>=!; ]", one)[0].lower().replace("_", "-") for one in wanted} - {"doppelgan"}
    pinned = pins()
    missing = {name for name in names if not name.startswith(MACHINE)} - set(pinned)
    assert not missing, "run .ci/pin"
    assert all(pinned.values())
    assert not [name for name in pinned if name.startswith(MACHINE)]


def test_the_bill_of_materials_lists_what_the_wheel_carries() -> None:
    """CycloneDX, as PEP 770 has it; filled in by CMake."""
    text = (ROOT / "sbom.cdx.json.in").read_text()
    assert set(re.findall(r"@([A-Z_]+)@", text)) == {"SKBUILD_PROJECT_VERSION", "NANOBIND_VERSION"}
    bill = json.loads(text)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    listed = {one["bom-ref"] for one in bill["components"]}
    assert listed | {"doppelgan"} == {
        one for entry in bill["dependencies"] for one in [entry["ref"], *entry["dependsOn"]]
    }
    carried = re.findall(r"from the PyPI wheel (\w+) ([\d.]+)", (ROOT / "THIRD_PARTY.md").read_text())
    assert carried
    for name, version in carried:
        assert f"pkg:pypi/{name}@{version}" in {one.get("purl") for one in bill["components"]}
