"""The rights that the template gives, as SAM expands it, with references filled in; and what MiniStack's evaluator says."""

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ministack.core.iam_evaluator import (
    EvalContext,
    evaluate,
    evaluate_resource_policy,
    parse_policy_document,
)

from tests.local.stack import REGION

ACCOUNT = "000000000000"
NO_VALUE = {"Ref": "AWS::NoValue"}

Json = dict[str, Any]


@dataclass(frozen=True)
class Grant:
    """One action on one resource that a role may do."""

    role: str  # logical id
    action: str
    resource: str  # as the template names it
    arn: str
    condition: str = ""  # JSON

    @functools.cached_property
    def statement(self) -> Json:
        """As a policy statement."""
        condition = {"Condition": json.loads(self.condition)} if self.condition else {}
        return {"Effect": "Allow", "Action": self.action, "Resource": self.arn, **condition}

    def __str__(self) -> str:
        return f"{self.role}: {self.action} on {self.resource}"


@dataclass(frozen=True)
class Need:
    """One action on one resource that a recorded call asks for; context keys in lower case."""

    action: str
    arn: str
    context: Mapping[str, str] = field(default_factory=dict)


class Template:
    """An expanded template whose parameters have values and whose resources have names."""

    def __init__(
        self,
        expanded: Json,
        parameters: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
        stack_name: str = "idle-timer",
    ) -> None:
        self.resources: Json = expanded["Resources"]
        self._conditions: Json = expanded.get("Conditions", {})
        defaults = {name: str(each.get("Default", "")) for name, each in expanded["Parameters"].items()}
        self._lists = {
            name for name, each in expanded["Parameters"].items() if each["Type"] == "CommaDelimitedList"
        }
        self._parameters = defaults | dict(parameters or {})
        self._names = names or {}
        self._pseudo = {
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::Region": REGION,
            "AWS::StackName": stack_name,
        }

    def name(self, logical_id: str) -> str:
        """The name of the resource itself, without what surrounds it in a physical id."""
        given = self.resources[logical_id].get("Properties", {}).get("FunctionName")
        if self.resources[logical_id]["Type"] == "AWS::Lambda::Function" and given:
            return str(self.resolve(given))
        return re.split(r"[/|:]", self._names.get(logical_id, f"a-{logical_id}"))[-1]

    def reference(self, logical_id: str) -> Any:
        """What Ref answers."""
        if logical_id in self._pseudo:
            return self._pseudo[logical_id]
        if logical_id in self._parameters:
            value = self._parameters[logical_id]
            return value.split(",") if logical_id in self._lists else value
        match self.resources[logical_id]["Type"]:
            case "AWS::Lambda::Alias":
                function = self.resources[logical_id]["Properties"]["FunctionName"]["Ref"]
                return f"{self.arn(function)}:live"
            case "AWS::SNS::Topic":
                return self.arn(logical_id)
        return self.name(logical_id)

    def arn(self, logical_id: str) -> str:
        """The resource's ARN."""
        name = self.name(logical_id)
        service, region, path = {
            "AWS::DynamoDB::Table": ("dynamodb", REGION, f"table/{name}"),
            "AWS::Events::Rule": ("events", REGION, f"rule/{name}"),
            "AWS::IAM::ManagedPolicy": ("iam", "", f"policy/{name}"),
            "AWS::IAM::Role": ("iam", "", f"role/{name}"),
            "AWS::Lambda::Function": ("lambda", REGION, f"function:{name}"),
            "AWS::SNS::Topic": ("sns", REGION, name),
            "AWS::SQS::Queue": ("sqs", REGION, name),
            "AWS::Scheduler::ScheduleGroup": ("scheduler", REGION, f"schedule-group/{name}"),
        }[self.resources[logical_id]["Type"]]
        return f"arn:aws:{service}:{region}:{ACCOUNT}:{path}"

    def resolve(self, node: Any) -> Any:
        """Fill in every function of CloudFormation."""
        match node:
            case {"Ref": str(name)} if node != NO_VALUE:
                return self.reference(name)
            case {"Fn::GetAtt": [name, "Arn"]}:
                return self.arn(name)
            case {"Fn::Sub": str(text)}:
                return re.sub(r"\$\{([^}]+)\}", lambda found: self._substitute(found[1]), text)
            case {"Fn::If": [condition, yes, no]}:
                return self.resolve(yes if self.holds({"Condition": condition}) else no)
            case {"Fn::Join": [separator, parts]}:
                return separator.join(self.resolve(parts))
            case dict():
                return {key: self.resolve(each) for key, each in node.items()}
            case list():
                resolved = [self.resolve(each) for each in node]
                return [each for each in resolved if each != NO_VALUE]
        return node

    def _substitute(self, name: str) -> str:
        logical_id, _, attribute = name.partition(".")
        return self.arn(logical_id) if attribute == "Arn" else str(self.reference(logical_id))

    def holds(self, condition: Json) -> bool:
        """Whether a condition is met."""
        match condition:
            case {"Condition": str(name)}:
                return self.holds(self._conditions[name])
            case {"Fn::Not": [inner]}:
                return not self.holds(inner)
            case {"Fn::And": parts}:
                return all(self.holds(part) for part in parts)
            case {"Fn::Equals": [one, other]}:
                return bool(str(self.resolve(one)) == str(self.resolve(other)))
        raise NotImplementedError(str(condition))

    def exists(self, logical_id: str) -> bool:
        """Whether its own condition lets it be made."""
        condition = self.resources[logical_id].get("Condition")
        return condition is None or self.holds({"Condition": condition})

    def of_type(self, kind: str) -> Iterator[tuple[str, Json]]:
        """The resources that are made, with their properties."""
        for logical_id, resource in self.resources.items():
            if resource["Type"] == kind and self.exists(logical_id):
                yield logical_id, resource["Properties"]

    # --- rights ---

    def grants(self) -> list[Grant]:
        """Every right that the template writes down for a role, or for whom a managed policy is attached to."""
        found: list[Grant] = []
        for role, documents in self._documents():
            for document in documents:
                for written in document["Statement"]:
                    found += self._granted(role, written)
        return found

    def _documents(self) -> Iterator[tuple[str, list[Json]]]:
        for role, properties in self.of_type("AWS::IAM::Role"):
            yield role, [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        for _, properties in self.of_type("AWS::IAM::Policy"):
            for role in properties["Roles"]:
                yield role["Ref"], [properties["PolicyDocument"]]
        for policy, properties in self.of_type("AWS::IAM::ManagedPolicy"):
            yield policy, [properties["PolicyDocument"]]

    def _granted(self, role: str, written: Json) -> Iterator[Grant]:
        if "Fn::If" in written:
            condition, yes, no = written["Fn::If"]
            written = yes if self.holds({"Condition": condition}) else no
        if written == NO_VALUE:
            return
        if written["Effect"] != "Allow":
            raise NotImplementedError(f"{role}: a role that is denied something")
        condition = json.dumps(self.resolve(written["Condition"])) if "Condition" in written else ""
        for resource in listed(written["Resource"]):
            for arn in listed(self.resolve(resource)):
                for action in listed(written["Action"]):
                    yield Grant(role, action, label(resource), arn, condition)

    def managed_policies(self) -> set[tuple[str, str]]:
        """(role, AWS's own policy that it has)."""
        return {
            (role, str(self.resolve(arn)).rpartition("/")[2])
            for role, properties in self.of_type("AWS::IAM::Role")
            for arn in self.resolve(properties.get("ManagedPolicyArns", []))
        }

    def role_of(self, function: str) -> str:
        """Logical id of a function's role."""
        role: str = self.resources[function]["Properties"]["Role"]["Fn::GetAtt"][0]
        return role

    def trust_policy(self, role: str) -> Json:
        """Who may assume a role."""
        document: Json = self.resolve(self.resources[role]["Properties"]["AssumeRolePolicyDocument"])
        return document

    def function_policy(self, alias: str) -> Json:
        """The resource policy that Lambda makes of the permissions to invoke an alias."""
        statements = []
        for _, properties in self.of_type("AWS::Lambda::Permission"):
            if properties["FunctionName"] != {"Ref": alias}:
                continue
            permission = self.resolve(properties)
            service = "." in permission["Principal"]
            conditions: Json = {}
            if "SourceArn" in permission:
                conditions["ArnLike"] = {"aws:SourceArn": permission["SourceArn"]}
            if "SourceAccount" in permission:
                conditions["StringEquals"] = {"aws:SourceAccount": permission["SourceAccount"]}
            statements.append(
                {
                    "Effect": "Allow",
                    "Principal": {"Service" if service else "AWS": permission["Principal"]},
                    "Action": permission["Action"],
                    "Resource": self.reference(alias),
                    "Condition": conditions,
                }
            )
        return {"Statement": statements}

    def resource_policy(self, kind: str, logical_id: str) -> Json:
        """The policy of a topic or of a queue."""
        [document] = [
            properties["PolicyDocument"]
            for _, properties in self.of_type(kind)
            if {"Ref": logical_id} in (properties.get("Topics") or properties["Queues"])
        ]
        resolved: Json = self.resolve(document)
        return resolved


def listed(value: Any) -> list[Any]:
    """One or many."""
    return value if isinstance(value, list) else [value]


def label(resource: Any) -> str:
    """A resource as the template names it: `ConversationsTable/index/sweep`."""
    match resource:
        case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), _]}:
            return name
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{([^.}]+)[^}]*\}", r"\1", text.rpartition(":schedule/")[2])
    return str(resource)


def allows(grants: Sequence[Grant], need: Need) -> bool:
    """Whether these rights allow it."""
    policies = [parse_policy_document({"Statement": [grant.statement]}) for grant in grants]
    return bool(evaluate(_context(need), policies).decision == "Allow")


def lets_in(
    policy: Json, service: str, need: Need, *, caller: str = "", account: str = ACCOUNT, tls: bool = True
) -> bool:
    """Whether a resource's own policy allows it to an AWS service, or to a caller (an ARN)."""
    context = _context(need, caller=caller or f"arn:aws:iam::{account}:{service}", account=account, tls=tls)
    return bool(evaluate_resource_policy(policy, context, service or None).decision == "Allow")


def _context(need: Need, *, caller: str = "", account: str = ACCOUNT, tls: bool = True) -> EvalContext:
    return EvalContext(
        principal_arn=caller or f"arn:aws:sts::{ACCOUNT}:assumed-role/a-role/a-session",
        principal_type="AssumedRole",
        principal_account=account,
        action=need.action,
        resource_arn=need.arn,
        region=REGION,
        secure_transport=tls,
        service_context=dict(need.context),
    )
