"""The interpreter that functions run on: Python and boto3, nothing else, as in the real runtime."""

import compileall
import contextlib
import importlib.metadata
import logging
import re
import shutil
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

LOGGER = logging.getLogger("tests.local")


def bare_interpreter(home: Path = Path(sys.prefix) / "lambda-runtime") -> Path:
    """A Python beside which only boto3 is installed; made once, and again when the installed boto3 has changed.

    boto3 and what it requires are copied from this environment: the pinned versions, and no network.
    """
    wanted = _requirements("boto3")
    mark = home / "versions.txt"
    versions = "\n".join(
        [sys.version, *(f"{name}=={importlib.metadata.version(name)}" for name in sorted(wanted))]
    )
    interpreter = home / "bin" / "python"
    if interpreter.exists() and mark.exists() and mark.read_text() == versions:
        return interpreter
    LOGGER.info("making a bare interpreter for the functions in %s", home)
    making = Path(tempfile.mkdtemp(prefix=home.name, dir=home.parent))
    try:
        venv.create(making, with_pip=False, symlinks=True)
        site = Path(sysconfig.get_path("purelib", vars={"base": str(making)}))
        for name in wanted:
            _copy(importlib.metadata.distribution(name), site)
        # As AWS's own is; or the first process to import a module would pay for it, and be measured doing so.
        compileall.compile_dir(site, quiet=2)
        (making / mark.name).write_text(versions)
        shutil.rmtree(home, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was faster
            making.rename(home)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return interpreter


def _requirements(name: str) -> set[str]:
    found = {name}
    for requirement in importlib.metadata.requires(name) or []:
        specifier, _, marker = requirement.partition(";")
        if not marker:  # boto3's requirements under a marker are extras
            found |= _requirements(re.split(r"[^\w.-]", specifier.strip())[0])
    return found


def _copy(distribution: importlib.metadata.Distribution, site: Path) -> None:
    for file in distribution.files or []:
        if ".." in file.parts:  # scripts
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        source = Path(str(distribution.locate_file(file)))
        if source.exists():
            shutil.copy2(source, target)
