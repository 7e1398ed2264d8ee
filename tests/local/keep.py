"""Runs a command for as long as somebody holds the other end of this program's standard input.

``python keep.py [--remove DIRECTORY] COMMAND...``: when the input closes (the process that started this one has
ended, however it ended) or a SIGTERM arrives, the command's whole process group is ended: politely first, then
not. The directory is removed only in the first case: an orderly caller clears up after itself.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

GRACE_SECONDS = 8.0


def main() -> int:
    """Run the command; returns its exit code."""
    arguments = sys.argv[1:]
    remove = ""
    if arguments[0] == "--remove":
        remove, arguments = arguments[1], arguments[2:]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    child = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT}),
    )
    orphaned = threading.Event()

    def watch_input() -> None:
        while os.read(0, 4096):
            pass
        orphaned.set()
        os.kill(os.getpid(), signal.SIGTERM)

    def watch_child() -> None:
        child.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    for watch in (watch_input, watch_child):
        threading.Thread(target=watch, daemon=True).start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    end_group(child)
    if remove and orphaned.is_set():
        shutil.rmtree(remove, ignore_errors=True)
    return child.wait()


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End every process of the group that the child leads."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
