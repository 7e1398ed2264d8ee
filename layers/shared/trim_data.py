"""Part of the layer's build: botocore's service descriptions, cut down to the operations that idle_timer calls.

python trim_data.py BOTOCORE TARGET

botocore parses its descriptions at every start: 1.2 MB of endpoints and whole services, of which a touch uses two
operations. What is written here has the same form, and stands in botocore's own place for it (`data_path`,
https://botocore.amazonaws.com/v1/documentation/api/latest/reference/loaders.html). Whatever is not here is still found
in the runtime's own data.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

OPERATIONS = {
    "dynamodb": [
        "BatchGetItem",
        "DeleteItem",
        "DescribeEndpoints",
        "GetItem",
        "PutItem",
        "Query",
        "Scan",
        "UpdateItem",
    ],
    "lambda": ["Invoke"],
    "scheduler": ["CreateSchedule", "DeleteSchedule", "GetSchedule", "ListSchedules", "UpdateSchedule"],
    "secretsmanager": ["GetSecretValue"],
    "sns": ["Publish"],
    "sqs": ["ChangeMessageVisibility", "DeleteMessage", "ReceiveMessage", "SendMessage"],
}
PREFIXES = {
    *OPERATIONS,
    "connect",
    "runtime-v2-lex",
}  # as endpoints.json calls the services of which clients get made


def main(botocore: Path, target: Path) -> None:
    """Write the descriptions of all services, and the version of botocore that they come from."""
    data = botocore / "data"
    for service, operations in OPERATIONS.items():
        [version] = [path.parent for path in sorted((data / service).glob("*/service-2.json*"))][-1:]
        folder = target / service / version.name
        _write(folder / "service-2.json", trimmed(_read(version / "service-2.json"), operations))
        _write(folder / "endpoint-rule-set-1.json", _read(version / "endpoint-rule-set-1.json"))
    _write(target / "endpoints.json", _endpoints(_read(data / "endpoints.json")))
    version_line = next(
        line for line in (botocore / "__init__.py").read_text().splitlines() if line.startswith("__version__")
    )
    (target / "version").write_text(version_line.split("'")[1])


def trimmed(service: dict[str, Any], operations: list[str]) -> dict[str, Any]:
    """A service with these operations, the shapes that they reach, and no documentation."""
    kept = {name: service["operations"][name] for name in operations}
    wanted, shapes = _shapes(list(kept.values())), {}
    while wanted:
        name = wanted.pop()
        if name not in shapes:
            shapes[name] = service["shapes"][name]
            wanted |= _shapes([shapes[name]])
    wanted_keys = {key: value for key, value in service.items() if key not in ("documentation", "examples")}
    return _without_documentation(wanted_keys | {"operations": kept, "shapes": shapes})


def _shapes(parts: list[Any]) -> set[str]:
    found: set[str] = set()
    for part in parts:
        if isinstance(part, dict):
            found |= {part["shape"]} if isinstance(part.get("shape"), str) else set()
            found |= _shapes(list(part.values()))
        elif isinstance(part, list):
            found |= _shapes(part)
    return found


def _without_documentation(part: Any) -> Any:
    if isinstance(part, dict):
        return {
            key: _without_documentation(value)
            for key, value in part.items()
            if key != "documentation" or not isinstance(value, str)
        }
    return [_without_documentation(each) for each in part] if isinstance(part, list) else part


def _endpoints(everything: dict[str, Any]) -> dict[str, Any]:
    partitions = [
        {
            **partition,
            "services": {name: each for name, each in partition["services"].items() if name in PREFIXES},
        }
        for partition in everything["partitions"]
    ]
    return {**everything, "partitions": partitions}


def _read(path: Path) -> Any:
    packed = path.with_name(f"{path.name}.gz")
    return json.loads(gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes())


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
