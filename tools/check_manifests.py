"""Render every overlay and every combination under deploy/kubernetes/tests, and validate strictly what comes of it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from kubernetes_validate import SchemaNotFoundError, ValidationError, validate

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
KUBECTL = Path(sys.executable).parent / "kubectl"
VERSIONS = ("1.30", "1.37")
"""Of Kubernetes: the oldest that has all that the manifests use (the sleep of preStop), and the newest known here."""
_REDIS = {"stream", "streamLength", "databaseIndex", "enableTLS", "unsafeSsl"}
TRIGGER_KEYS = {
    "redis-streams": _REDIS,
    "redis-cluster-streams": _REDIS - {"databaseIndex"},
    "redis-sentinel-streams": _REDIS,
    "prometheus": {"serverAddress", "query", "threshold", "ignoreNullValues", "namespace", "timeout", "authModes"},
}
"""What may stand in a trigger's metadata, which is a free map in KEDA's schema. A consumerGroup is none of it: with
one, KEDA asks for pending entries instead of the length.

Source: https://keda.sh/docs/latest/scalers/
"""


def main() -> int:
    """Check all of them; 1 if anything is wrong."""
    problems, validated = list[str](), set[str]()
    folders = sorted(
        file.parent for part in ("overlays", "tests") for file in FOLDER.glob(f"{part}/*/kustomization.yaml")
    )
    for folder in folders:
        rendered = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
        name = folder.relative_to(FOLDER)
        if rendered.returncode or rendered.stderr:  # a warning is of something that will go
            problems.append(f"{name}: {rendered.stderr.strip()}")
            continue
        for resource in filter(None, yaml.safe_load_all(rendered.stdout)):
            text = json.dumps(resource, sort_keys=True)
            if text not in validated:
                validated.add(text)
                what = f"{name}: {resource['kind']}/{resource['metadata']['name']}"
                problems += [f"{what}: {problem}" for problem in _problems_of(resource)]
    print("\n".join(problems) or f"{len(folders)} combinations, {len(validated)} different resources: valid")
    return bool(problems)


def _problems_of(resource: dict[str, Any]) -> Iterator[str]:
    group_version, kind = resource["apiVersion"], resource["kind"]
    own = FOLDER / "tests" / "schemas" / f"{kind}_{group_version.replace('/', '_')}.json"
    if own.exists():
        for error in jsonschema.Draft202012Validator(json.loads(own.read_text())).iter_errors(resource):
            yield f"{'.'.join(map(str, error.path))}: {error.message[:200]}"
        if kind == "ScaledObject":
            yield from _problems_of_triggers(resource)
        return
    for version in VERSIONS:
        try:
            validate(resource, version, strict=True)
        except ValidationError as e:
            yield f"Kubernetes {version}: {'.'.join(map(str, e.path))}: {e.message[:200]}"
        except SchemaNotFoundError:
            yield f"no schema of {group_version} {kind}: put one into deploy/kubernetes/tests/schemas"


def _problems_of_triggers(scaled_object: dict[str, Any]) -> Iterator[str]:
    for trigger in scaled_object["spec"]["triggers"]:
        known = TRIGGER_KEYS.get(trigger["type"])
        if known is None:
            yield f"trigger {trigger['name']}: unknown type {trigger['type']}"
        elif unknown := set(trigger["metadata"]) - known:
            yield f"trigger {trigger['name']}: no such key: {', '.join(sorted(unknown))}"


if __name__ == "__main__":
    sys.exit(main())
