"""checkov reads the template and what SAM makes of it, offline and in an environment of its own.

What it finds beyond the suppressions of `.checkov.yaml` fails, and so does a suppression that is no longer needed.
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml
from samcli.yamlhelper import yaml_parse

from tests.local.stack import REGION, REPOSITORY
from tests.prove.summary import Row, table
from tests.unit.test_template import SOURCE, expand

ENVIRONMENT = Path(sys.prefix) / "checkov"
REQUIREMENTS = REPOSITORY / "tests" / "requirements" / "checkov.txt"
SETTINGS = REPOSITORY / ".checkov.yaml"


@dataclass(frozen=True)
class Findings:
    """What checkov says without suppressions."""

    passed: int
    failed: Counter[str]  # by check: CKV_AWS_115 and the like
    where: dict[str, set[str]]  # its resources


def explained_checks() -> set[str]:
    """The checks that `.checkov.yaml` leaves out, each with its reason above it."""
    return set(yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))["skip-check"])


def run(deep: bool) -> list[Row]:
    """Rows for the summary: what, figure, kept. Without `deep` checkov is not installed, and nothing is said."""
    if not deep:
        return []
    with tempfile.TemporaryDirectory() as folder:
        expanded = Path(folder) / "expanded.json"
        os.environ.setdefault("AWS_DEFAULT_REGION", REGION)  # SAM asks for one
        expanded.write_text(json.dumps(expand(yaml_parse(SOURCE))), encoding="utf-8")
        found = findings([REPOSITORY / "template.yaml", expanded])
    reasons = explained_checks()
    unexplained = sorted(found.failed.keys() - reasons)
    stale = sorted(reasons - found.failed.keys())
    for check in unexplained:
        print(f"{check}: {', '.join(sorted(found.where[check]))}")
    for check in stale:
        print(f"{check}: suppressed for nothing")
    left = sum(found.failed[check] for check in unexplained)
    explained = found.failed.total() - left
    return [
        (
            "checkov: checks passed, explained",
            f"{found.passed}, {explained} ({len(reasons)} reasons)",
            found.passed > 0,
        ),
        ("checkov: findings left, stale suppressions", f"{left}, {len(stale)}", not (left or stale)),
    ]


def findings(files: list[Path]) -> Findings:
    """Run checkov over the files."""
    command = [str(_checkov()), "--framework", "cloudformation", "--skip-download", "--quiet", "--compact"]
    with tempfile.TemporaryDirectory() as elsewhere:  # where no .checkov.yaml is found
        settings = Path(elsewhere) / "none.yaml"
        settings.write_text("{}\n", encoding="utf-8")
        answer = subprocess.run(
            [*command, "--config-file", str(settings), "--output", "json", "--file", *map(str, files)],
            cwd=elsewhere,
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        report = json.loads(answer.stdout)
        results, summary = report["results"], report["summary"]
    except (ValueError, KeyError, TypeError):
        raise RuntimeError(f"checkov failed:\n{answer.stdout[-1000:]}{answer.stderr[-3000:]}") from None
    failed, where = Counter[str](), dict[str, set[str]]()
    for check in results["failed_checks"]:
        failed[check["check_id"]] += 1
        where.setdefault(check["check_id"], set()).add(check["resource"])
    if summary["parsing_errors"]:
        raise RuntimeError(f"checkov could not read the template:\n{answer.stdout[-3000:]}")
    return Findings(summary["passed"], failed, where)


def _checkov() -> Path:
    """Its command; installed from the lock file the first time, and when that has changed."""
    mark = ENVIRONMENT / "requirements.txt"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if not mark.exists() or mark.read_text(encoding="utf-8") != wanted:
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
        installed = subprocess.run(
            [*pip, "--quiet", "--require-hashes", "--requirement", str(REQUIREMENTS)],
            capture_output=True,
            text=True,
            check=False,
        )
        if installed.returncode:
            raise RuntimeError(f"checkov was not installed:\n{installed.stderr[-3000:]}")
        mark.write_text(wanted, encoding="utf-8")
    return ENVIRONMENT / "bin" / "checkov"


if __name__ == "__main__":
    results = run(deep=True)
    print(table(results))
    sys.exit(not all(kept for _, _, kept in results))
