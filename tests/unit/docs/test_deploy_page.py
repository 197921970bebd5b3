"""docs/deploy.md says of the manifests what is so."""

import re

from support.manifests import FOLDER, render

PAGE = (FOLDER.parents[1] / "docs" / "deploy.md").read_text(encoding="utf-8")


def test_the_table_of_secrets_names_each_that_is_mounted_with_each_key_that_is_read() -> None:
    overlay = render("overlays/production")
    rows = re.findall(r"^\| `(sred-email-\w+)` \| (.+?) \| (?:the |ingress|consumer)", PAGE, re.MULTILINE)
    documented = {name: set(re.findall(r"`([a-z-]+)`", cell)) - {"default", "host"} for name, cell in rows}
    read = dict[str, set[str]]()
    for workload in ("migrate", "ingress", "consumer", "console"):
        files = {value.rsplit("/", 1)[1] for name, value in overlay.environment(workload).items() if "_FILE" in name}
        for secret in overlay.secrets(workload):
            read.setdefault(secret, set()).update(documented[secret])
        assert files == {key for secret in overlay.secrets(workload) for key in documented[secret]}
    for authentication in overlay.all("TriggerAuthentication"):
        for reference in authentication["spec"]["secretTargetRef"]:
            read.setdefault(reference["name"], set()).add(reference["key"])
    assert documented == read


def test_the_commands_hold_back_every_deployment_until_the_schema_is_there() -> None:
    held_back = set(re.findall(r"notin \((.*?)\)", PAGE))
    names = {deployment["metadata"]["name"] for deployment in render("overlays/production").all("Deployment")}
    assert {frozenset(names_of.split(",")) for names_of in held_back} == {frozenset(names)}
    for deployment in render("overlays/production").all("Deployment"):
        assert deployment["metadata"]["labels"]["app.kubernetes.io/name"] == deployment["metadata"]["name"]


def test_every_component_and_overlay_is_named() -> None:
    for part in ("components", "overlays"):
        for folder in (FOLDER / part).iterdir():
            assert folder.name.split("-")[0] in PAGE


def test_every_resource_of_a_command_is_there() -> None:
    overlay = render("overlays/production")
    named = set(re.findall(r"\b(deployment|service|job)/(sred-email[\w-]*)", PAGE))
    assert len(named) > 4
    for kind, name in named:
        assert overlay.one(kind.capitalize(), name)
