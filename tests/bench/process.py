"""Runs `driver.py` in processes of its own, on the functions' bare interpreter, and counts what they cost.

Instructions are counted with valgrind (cachegrind, without its cache simulation: the count of callgrind in less than half
the time). They repeat to the third digit on a busy machine, where wall times wander by half.
"""

import compileall
import os
import re
import shutil
import ssl
import subprocess
import sysconfig
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

import botocore
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.bench import answers
from tests.local.runtime import bare_interpreter

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
ACCOUNT = "us-east-1:123456789012"
SETTINGS = {
    "CONVERSATIONS_TABLE": "idle-timer-conversations",
    "CONTROL_TABLE": "idle-timer-control",
    "SCHEDULE_GROUP": "idle-timer",
    "SCHEDULE_ROLE_ARN": "arn:aws:iam::123456789012:role/idle-timer-schedule",
    "FAILURE_QUEUE_ARN": f"arn:aws:sqs:{ACCOUNT}:idle-timer-failure",
    "FAILURE_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/idle-timer-failure",
    "PARKED_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/idle-timer-parked",
    "TOUCH_FUNCTION_ARN": f"arn:aws:lambda:{ACCOUNT}:function:idle-timer-touch:live",
    "LIFECYCLE_FUNCTION_ARN": f"arn:aws:lambda:{ACCOUNT}:function:idle-timer-lifecycle:live",
    "CLEANUP_FUNCTION_ARN": f"arn:aws:lambda:{ACCOUNT}:function:idle-timer-cleanup:live",
    "OUTCOME_TOPIC_ARN": f"arn:aws:sns:{ACCOUNT}:idle-timer-outcomes",
    "POWERTOOLS_SERVICE_NAME": "idle-timer",
    "POWERTOOLS_METRICS_NAMESPACE": "IdleTimer",
    "POWERTOOLS_LOG_LEVEL": "INFO",
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}
RUNTIME = {
    "AWS_LAMBDA_FUNCTION_NAME": "idle-timer-bench",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
}


class BenchError(Exception):
    """Something that a measurement needs is missing, or a measured process failed; the message says what to do."""


@dataclass(frozen=True)
class Program:
    """What to run: a folder with app.py, a layer's python folder, and what the driver is told besides."""

    folder: Path
    layer: Path | None = None
    ready: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def instructions(program: Program, *, touches: int = 0, transport: str = "stub", runs: int = 1) -> float:
    """Instructions in millions from process start to the end of so many touches; the median of the runs."""
    return median(_count(program, touches, transport) for _ in range(runs))


def memory_mb(program: Program, *, touches: int, runs: int = 5) -> float:
    """Peak resident memory in MB; the median of the runs."""
    return median(int(_run(program, touches, "memory").split()[-1]) / 1024 for _ in range(runs))


def clients(program: Program) -> list[str]:
    """The services for which the program has made clients when it is ready."""
    return _run(program, 0, "clients").strip().splitlines()[-1].split()


def compiled_modules(program: Program) -> list[str]:
    """The layer's modules that Python had to compile, for want of byte code."""
    told = _run(program, 0, "stub", options=["-v"], both=True)
    found: list[str] = re.findall(r"^# code object from '?([^'\n]+\.py)'?$", told, re.MULTILINE)
    return [name for name in found if name.startswith(str(program.layer))]


def _count(program: Program, touches: int, transport: str) -> float:
    if shutil.which("valgrind") is None:
        raise BenchError(
            "valgrind is needed to count instructions, and it is not there: apt install valgrind (or dnf), or run with"
            " --skip-instructions"
        )
    with tempfile.NamedTemporaryFile("r") as report:
        tool = ["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
        _run(program, touches, transport, before=["valgrind", *tool, f"--log-file={report.name}"])
        text = report.read()
    found = re.search(r"I\s+refs:\s+([\d,]+)", text)
    if found is None:
        raise BenchError(f"valgrind told no count: {text[-500:]}")
    return int(found[1].replace(",", "")) / 1e6


def _run(
    program: Program,
    touches: int,
    transport: str,
    *,
    before: list[str] | None = None,
    options: list[str] | None = None,
    both: bool = False,
) -> str:
    command = [*(before or []), str(bare_interpreter()), *(options or []), str(HERE / "driver.py")]
    ran = subprocess.run(
        [*command, str(program.folder), program.ready, str(touches), transport],
        env={
            **RUNTIME,
            **SETTINGS,
            **program.environment,
            "PYTHONPATH": str(program.layer or ""),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise BenchError(f"{program.folder.name} failed: {ran.stderr[-2000:]}")
    return ran.stderr + ran.stdout if both else ran.stdout


# --- what is measured ------------------------------------------------------------------------------------------------


def build(folder: Path) -> Path:
    """`sam build` into a folder of its own."""
    machine = "arm64" if os.uname().machine in ("arm64", "aarch64") else "x86_64"
    sam = Path(bare_interpreter()).parents[2] / "bin" / "sam"
    ran = subprocess.run(
        [str(sam), "build", "--build-dir", str(folder), "--parameter-overrides", f"Architecture={machine}"],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": f"{sam.parent}{os.pathsep}{os.environ['PATH']}", "SAM_CLI_TELEMETRY": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise BenchError(f"sam build failed: {ran.stderr[-2000:]}")
    return folder


def function(built: Path, name: str, **environment: str) -> Program:
    """A function as built, with its layer."""
    ready = {"touch": "", "lifecycle": "", "inspect": "inspection"}.get(name, name)
    layer = built / "SharedLayer" / "python"
    return Program(built / f"{name.capitalize()}Function", layer, ready, environment)


def bare(services: list[str]) -> Program:
    """boto3 with clients of these services."""
    return Program(HERE / "handlers" / "bare", environment={"BENCH_CLIENTS": " ".join(services)})


USUAL = (
    "aws_lambda_powertools",
    "jmespath",
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "typing_inspection",
)


def typical(bare: Program, layer: Path, *, compiled: bool) -> Program:
    """A Powertools and pydantic handler, with the clients of `bare`, and a layer with or without byte code."""
    site = Path(sysconfig.get_path("purelib"))
    for name in USUAL:
        shutil.copytree(site / name, layer / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(site / "typing_extensions.py", layer)
    if compiled:
        compileall.compile_dir(layer, quiet=1)
    environment = {**bare.environment, "PYTHONDONTWRITEBYTECODE": "1"}
    return Program(HERE / "handlers" / "typical", layer, environment=environment)


def zipped_mb(folder: Path) -> float:
    """Size of a folder as a zip file, in MB of 10⁶ bytes."""
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(folder.rglob("*")):
                packed.write(path, path.relative_to(folder))
        return file.tell() / 1e6


# --- a server on the wire --------------------------------------------------------------------------------------------


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as AWS keeps them

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        headers, body = answers.answer(self.headers.get("X-Amz-Target"))
        self.send_response_only(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def tls_server() -> Iterator[dict[str, str]]:
    """A server that answers over TLS; the environment that makes clients use and trust it.

    Its certificate stands at the end of botocore's own CA bundle, so that reading the bundle costs what it costs.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate = _certificate(folder)
        bundle = folder / "bundle.pem"
        own = Path(botocore.__file__).with_name("cacert.pem")
        bundle.write_text(own.read_text() + certificate.read_text())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, folder / "key.pem")
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Answering)
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            url = f"https://localhost:{server.server_address[1]}"
            yield {"AWS_ENDPOINT_URL": url, "AWS_CA_BUNDLE": str(bundle)}
        finally:
            server.shutdown()
            server.server_close()


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return folder / "certificate.pem"
