"""Runs a command for as long as somebody holds the other end of this program's standard input.

``python keep.py [--remove DIRECTORY] COMMAND...``: when the input closes (the process that started this one has
ended, however it ended), the command's whole process group is killed and the directory removed. SIGTERM asks the
group to end, and gives it time; SIGINT kills it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 20.0


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
        os.kill(os.getpid(), signal.SIGINT)

    def watch_child() -> None:
        child.wait()
        os.kill(os.getpid(), signal.SIGINT)

    for watch in (watch_input, watch_child):
        threading.Thread(target=watch, daemon=True).start()
    if signal.sigwait({signal.SIGTERM, signal.SIGINT}) == signal.SIGTERM:
        with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
            child.wait(GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if remove and orphaned.is_set():
        shutil.rmtree(remove, ignore_errors=True)
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
