"""The Kubernetes manifests as kubectl renders them."""

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
_KUBECTL = Path(sys.executable).parent / "kubectl"


class Rendered:
    """The resources of one overlay or combination.

    Attributes:
        name: Of its folder.
        resources: As they would be applied.
    """

    def __init__(self, name: str, resources: list[dict[str, Any]]) -> None:
        self.name = name
        self.resources = resources

    def all(self, *kinds: str) -> list[dict[str, Any]]:
        """All resources of these kinds."""
        return [resource for resource in self.resources if resource["kind"] in kinds]

    def one(self, kind: str, name: str) -> dict[str, Any]:
        """The resource of that name."""
        (found,) = (r for r in self.all(kind) if r["metadata"]["name"] == name)
        return found

    def pod(self, workload: str) -> dict[str, Any]:
        """The pod's specification of a Deployment or a Job."""
        (found,) = (r for r in self.all("Deployment", "Job") if r["metadata"]["name"] == f"sred-email-{workload}")
        return dict(found["spec"]["template"]["spec"])

    def environment(self, workload: str) -> dict[str, str]:
        """What a workload's container finds in its environment."""
        (container,) = self.pod(workload)["containers"]
        found = dict[str, str]()
        for source in container.get("envFrom", []):
            found |= self.one("ConfigMap", source["configMapRef"]["name"])["data"]
        return found | {variable["name"]: variable["value"] for variable in container.get("env", [])}

    def secrets(self, workload: str) -> list[str]:
        """The names of the Secrets that a workload mounts."""
        return [secret["name"] for secret in self._mounted(workload)]

    def chosen_files(self, workload: str) -> set[str]:
        """The names of the files that a workload mounts from Secrets of which it does not mount all."""
        return {item["path"] for secret in self._mounted(workload) for item in secret.get("items", [])}

    def _mounted(self, workload: str) -> list[dict[str, Any]]:
        return [
            source["secret"]
            for volume in self.pod(workload)["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
        ]


@functools.cache
def render(path: str) -> Rendered:
    """Render a folder below deploy/kubernetes."""
    text = subprocess.run([_KUBECTL, "kustomize", FOLDER / path], capture_output=True, text=True, check=True).stdout  # noqa: S603 - ours
    return Rendered(path, [resource for resource in yaml.safe_load_all(text) if resource])
