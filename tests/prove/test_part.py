"""A part that fails, ends or hangs is told as a row that is not kept, and ends with all that it started."""

import os
import time
from pathlib import Path

import pytest

from tests.prove import part


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source of a part called `some_part`."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "some_part.py"


def test_rows_come_back_as_the_part_gave_them(module: Path) -> None:
    module.write_text("run = lambda deep: [('what', f'{deep}', True), ('other', '2', False)]")
    assert part.run("some_part", deep=True, minutes=1) == [("what", "True", True), ("other", "2", False)]
    assert part.run("some_part", deep=False, minutes=1)[0] == ("what", "False", True)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def run(deep): raise LookupError('secret')", "LookupError"),
        ("import nothing_like_that", "ModuleNotFoundError"),
        ("import os\nrun = lambda deep: os._exit(0)", "ended with 0"),
        ("import os\nrun = lambda deep: os._exit(3)", "ended with 3"),
    ],
)
def test_a_part_that_fails_or_ends_is_not_kept(module: Path, source: str, why: str) -> None:
    module.write_text(source)
    assert part.run("some_part", deep=True, minutes=1) == [("some_part failed", why, False)]


def test_a_part_that_takes_too_long_is_ended_with_what_it_started(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(part, "SIGN_OF_LIFE_SECONDS", 0.5)
    module.write_text(
        "import subprocess, time\n"
        "def run(deep):\n"
        "    started = subprocess.Popen(['sleep', '60'])\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(str(started.pid))\n"
        "    time.sleep(60)\n"
    )
    assert part.run("some_part", deep=True, minutes=0.1) == [
        ("some_part failed", "took longer than 0.1 min", False)
    ]
    assert "so far" in capsys.readouterr().out
    started = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while _runs(started):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
