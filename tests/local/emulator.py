"""The emulator's process: MiniStack, mended, behind the gate. Started by ``tests.local.stack``, never imported by it.

``python -m tests.local.emulator --directory DIRECTORY --interpreter PYTHON [--port PORT] [--enforce-iam]`` serves
on loopback until SIGTERM, and writes ``{"port": ...}`` to ``DIRECTORY/emulator.json`` when it is ready. The
directory keeps its state between two runs.
"""

import argparse
import asyncio
import json
import os
import socket
from pathlib import Path


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="MiniStack, mended, behind the gate")
    parser.add_argument(
        "--directory", type=Path, required=True, help="private directory for everything it writes"
    )
    parser.add_argument("--interpreter", required=True, help="the Python that functions run on")
    parser.add_argument("--port", type=int, default=0, help="loopback port (default: a free one)")
    parser.add_argument("--also", default="", help="a second address to serve on, for containers")
    parser.add_argument(
        "--enforce-iam", action="store_true", help="check every call against its caller's policies"
    )
    options = parser.parse_args()

    listener = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    port = listener.getsockname()[1]
    for name in ("tmp", "state", "s3"):
        (options.directory / name).mkdir(exist_ok=True)
    # MiniStack reads its settings while it is imported.
    os.environ |= {
        "AUTH": "true" if options.enforce_iam else "false",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.3",
        "LAMBDA_ASYNC_RETRY_MAX_SECONDS": "1",
        "MINISTACK_REGION": "us-east-1",
        "PERSIST_STATE": "1",
        "S3_DATA_DIR": str(options.directory / "s3"),
        "S3_PERSIST": "1",
        "SFTP_ENABLED": "0",
        "STATE_DIR": str(options.directory / "state"),
        "TMPDIR": str(options.directory / "tmp"),
    }
    binds = [f"fd://{listener.fileno()}", *([f"{options.also}:{port}"] if options.also else [])]
    asyncio.run(serve(binds, port, options.interpreter, options.directory / "emulator.json"))


async def serve(binds: list[str], port: int, interpreter: str, ready: Path) -> None:
    """Run the mended emulator."""
    import hypercorn.asyncio
    import hypercorn.config
    from ministack import app

    from tests.local import mends
    from tests.local.gate import Gate

    gate = Gate(app.app)
    mends.apply(gate, interpreter)
    config = hypercorn.config.Config()
    config.bind = binds
    config.graceful_timeout = 0.5
    config.keep_alive_timeout = 75
    config.accesslog = None
    tasks = [asyncio.create_task(job()) for job in gate.background]
    partial = ready.with_suffix(".part")
    partial.write_text(json.dumps({"port": port}))
    partial.replace(ready)
    await hypercorn.asyncio.serve(gate, config)  # type: ignore[arg-type]
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    main()
