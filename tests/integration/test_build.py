"""The layer as `sam build` makes it, from the package index: complete, compiled, for both architectures, small."""

import importlib.util
import json
import marshal
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.local.runtime import bare_interpreter

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = REPOSITORY / "layers" / "shared"
MOST_BYTES = 8_000_000  # zipped, byte code included

# Imports what it is given and tells which modules came from where, and what had to be compiled for it.
IMPORTER = """
import importlib, importlib._bootstrap_external as machinery, json, sys
layer, *names = sys.argv[1:]
sys.path.insert(0, layer)
compiled = []
compile_source = machinery.SourceLoader.source_to_code
def noted(self, data, path, **options):
    compiled.append(path)
    return compile_source(self, data, path, **options)
machinery.SourceLoader.source_to_code = noted
for name in names:
    importlib.import_module(name)
files = [module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)]
print(json.dumps({"files": files, "compiled": compiled}))
"""


def make_layer(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    """As sam does: the makefile in a copy of its folder, told where to put things."""
    scratch, target = folder / "scratch", folder / "layer"
    shutil.copytree(SOURCES, scratch, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return subprocess.run(
        ["make", "build-SharedLayer"],
        cwd=scratch,
        env={**os.environ, "ARTIFACTS_DIR": str(target), "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    made = make_layer(folder, sys.executable)
    assert made.returncode == 0, made.stderr
    return folder / "layer"


def test_everything_lies_where_lambda_looks(layer: Path) -> None:
    """/opt/python: a wrong folder passes every local import and fails in Lambda."""
    assert [entry.name for entry in layer.iterdir()] == ["python"]
    names = {entry.name for entry in (layer / "python").iterdir()}
    assert {"idle_timer", "pydantic", "pydantic_core", "aws_lambda_powertools", "redis"} <= names
    assert not {"boto3", "botocore"} & names  # the runtime's own


def test_compiled_modules_serve_both_architectures(layer: Path) -> None:
    modules: dict[str, set[str]] = {}
    for file in layer.rglob("*.so"):
        module, platform = file.name.removesuffix(".so").split(".cpython-313-")
        modules.setdefault(module, set()).add(platform)
    assert modules
    for platforms in modules.values():
        assert platforms == {"aarch64-linux-gnu", "x86_64-linux-gnu"}


def test_every_module_has_byte_code_that_is_never_checked(layer: Path) -> None:
    for source in layer.rglob("*.py"):
        code = Path(importlib.util.cache_from_source(str(source))).read_bytes()
        assert code[:4] == importlib.util.MAGIC_NUMBER, source
        assert int.from_bytes(code[4:8], "little") == 0b01, source  # by hash, unchecked: PEP 552
        assert code[8:16] == importlib.util.source_hash(source.read_bytes()), source
        assert marshal.loads(code[16:]).co_filename.startswith("/opt/python/"), source  # noqa: S302 - our own build


def test_all_of_our_modules_run_on_the_layer_and_boto3_alone(layer: Path) -> None:
    """On an interpreter without our development packages, which would hide what the layer lacks."""
    package = layer / "python" / "idle_timer"
    names = [
        ".".join(file.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        for file in sorted(package.rglob("*.py"))
    ]
    ran = subprocess.run(
        [bare_interpreter(), "-I", "-c", IMPORTER, layer / "python", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    from_layer = [file for file in told["files"] if file.startswith(str(layer))]
    assert len(from_layer) > len(names)
    assert [file for file in told["compiled"] if file.startswith(str(layer))] == []


def test_layer_is_small_enough_to_load_quickly(layer: Path, tmp_path: Path) -> None:
    archive = tmp_path / "layer.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(layer.rglob("*")):
            packed.write(file, file.relative_to(layer))
    assert archive.stat().st_size <= MOST_BYTES


def test_another_python_is_refused_by_name(tmp_path: Path) -> None:
    other = tmp_path / "python3.12"
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    made = make_layer(tmp_path, str(other))
    assert made.returncode != 0
    assert "needs Python 3.13" in made.stderr
    assert str(other) in made.stderr
