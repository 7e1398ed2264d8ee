"""``python -m tests.local up``: the whole application on this machine until Ctrl-C, and how to reach it."""

import argparse
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from tests.local.stack import CREDENTIALS, FILES, REGION, REPOSITORY, LocalStack, LocalStackError, Session


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.local", description=__doc__)
    commands = parser.add_subparsers(required=True)
    up = commands.add_parser("up", help="build, deploy and keep up until Ctrl-C")
    up.add_argument("--no-build", action="store_true", help="deploy what the last sam build left")
    up.add_argument(
        "--parameter", metavar="NAME=VALUE", action="append", default=[], help="a stack parameter"
    )
    up.add_argument("--stack-name", default="idle-timer")
    up.add_argument(
        "--enforce-iam", action="store_true", help="check every call against the caller's policies"
    )
    up.add_argument(
        "--host-address",
        metavar="ADDRESS",
        default="",
        help="address of this machine by which containers (sam local invoke) reach it; served on as well",
    )
    up.add_argument("--template", type=Path, default=REPOSITORY / "template.yaml")
    up.add_argument(
        "--files", type=Path, default=FILES, help="where env.json and stack.json go (default: .local)"
    )
    up.set_defaults(run=run_up)
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("tests.local").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        options.run(options)
    except KeyboardInterrupt:
        return 130
    except LocalStackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run_up(options: argparse.Namespace) -> None:
    """Keep the stack up until a signal arrives."""
    parameters = dict(parameter.split("=", 1) for parameter in options.parameter)
    written = [options.files / "stack.json", options.files / "env.json"]
    with LocalStack(
        build=not options.no_build,
        template=options.template,
        parameters=parameters,
        stack_name=options.stack_name,
        enforce_iam=options.enforce_iam,
        host_address=options.host_address,
    ) as stack:
        options.files.mkdir(exist_ok=True)
        reached_at = stack.endpoint_url.replace("127.0.0.1", options.host_address or "127.0.0.1")
        try:
            for file, content in zip(
                written, (stack.describe(), environments(stack, reached_at)), strict=True
            ):
                file.write_text(json.dumps(content, indent=2) + "\n")
            print(directions(stack, options.stack_name, written[1]), flush=True)
            signal.pause()
        except KeyboardInterrupt:
            print("going down", file=sys.stderr)
        finally:
            for file in written:
                file.unlink(missing_ok=True)


def environments(stack: Session, endpoint_url: str) -> dict[str, dict[str, str]]:
    """For ``sam local invoke --env-vars``: each deployed function's variables, and where AWS is."""
    functions = {function["FunctionName"]: function for function in deployed_functions(stack)}
    return {
        logical: {
            **functions[physical].get("Environment", {}).get("Variables", {}),
            "AWS_ENDPOINT_URL": endpoint_url,
        }
        for logical, physical in stack.resources.items()
        if physical in functions
    }


def deployed_functions(stack: Session) -> list[dict[str, Any]]:
    """Configurations of the functions that are deployed."""
    pages = stack.client("lambda").get_paginator("list_functions").paginate()
    return [function for page in pages for function in page["Functions"]]


def directions(stack: Session, stack_name: str, env_file: Path) -> str:
    """How a backend reaches the stack."""
    output = next(name for name in ["TouchFunctionArn", *stack.outputs] if name in stack.outputs)
    touch, function = stack.outputs[output], stack.function_name(output)
    logical = next(name for name, value in stack.resources.items() if value == function)
    [architecture] = next(
        each["Architectures"] for each in deployed_functions(stack) if each["FunctionName"] == function
    )
    event = '{"conversation_id": "c-1"}'
    keys = " ".join(f"{name}={value}" for name, value in CREDENTIALS.items())
    url = stack.endpoint_url
    return f"""
Idle Timer is up. Ctrl-C ends it and removes everything.

  endpoint     {url}
  region       {REGION}
  credentials  {keys}
  touch        {touch}
  sessions     {stack.redis_url}

boto3:
  boto3.client("lambda", endpoint_url="{url}", region_name="{REGION}", aws_access_key_id="test", aws_secret_access_key="test").invoke(FunctionName="{touch}", Payload=b'{event}')["Payload"].read()

AWS CLI:
  {keys} aws --endpoint-url {url} --region {REGION} lambda invoke --function-name {touch} --cli-binary-format raw-in-base64-out --payload '{event}' /dev/stdout

SAM CLI:
  {keys} AWS_ENDPOINT_URL={url} sam remote invoke {logical} --stack-name {stack_name} --region {REGION} --parameter Qualifier=live --event '{event}'
  {keys} sam local invoke {logical} --env-vars {env_file} --region {REGION} --parameter-overrides Architecture={architecture} --event events/touch.json   (needs Docker, and HOST_ADDRESS or --host-address here)
"""


if __name__ == "__main__":
    sys.exit(main())
