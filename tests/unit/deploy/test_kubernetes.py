"""deploy/kubernetes: names, ports, probes, secrets and settings of the manifests fit each other and the processes."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from sred_email_consumer.settings import ConsumerSettings
from sred_email_core.email_send_log.migrate import PATIENCE
from sred_email_core.settings import ServiceSettings
from sred_email_ingress.settings import IngressSettings
from support.known_settings import variables_of
from support.manifests import FOLDER, Rendered, render

OVERLAYS = sorted(str(f.parent.relative_to(FOLDER)) for f in FOLDER.glob("overlays/*/kustomization.yaml"))
OVERLAYS.append("tests/mutual-tls-and-tracing")  # components that no overlay of ours has
WORKLOADS = ("ingress", "consumer", "migrate", "console")
SETTINGS: dict[str, type[ServiceSettings]] = {"ingress": IngressSettings, "consumer": ConsumerSettings}


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Rendered:
    """Each overlay."""
    return render(request.param)


def test_the_console_calls_services_that_there_are(overlay: Rendered) -> None:
    environment = overlay.environment("console")
    for variable in ("SRED_EMAIL_INGRESS_ADDRESS", "SRED_EMAIL_CONSUMER_ADDRESS"):
        name, port = environment[variable].split(":")
        assert [p["port"] for p in overlay.one("Service", name)["spec"]["ports"]] == [int(port)]
    (port,) = container(overlay, "console")["ports"]
    assert environment["SRED_EMAIL_CONSOLE_LISTEN"] == f"0.0.0.0:{port['containerPort']}"


def container(overlay: Rendered, workload: str) -> dict[str, Any]:
    (found,) = overlay.pod(workload)["containers"]
    return dict(found)


def listens_on(workload: str) -> dict[str, int]:
    fields = SETTINGS[workload].model_fields
    return {name: fields[f"{workload}_{name}_listen"].default.port for name in ("grpc", "http")}


@pytest.mark.parametrize("workload", WORKLOADS)
def test_each_variable_that_is_set_is_one_that_the_process_reads(overlay: Rendered, workload: str) -> None:
    assert overlay.environment(workload)
    assert set(overlay.environment(workload)) - variables_of(workload) == set()


@pytest.mark.parametrize("workload", WORKLOADS)
def test_secrets_are_mounted_files_and_each_that_is_named_is_read(overlay: Rendered, workload: str) -> None:
    environment = overlay.environment(workload)
    files = {k: v for k, v in environment.items() if k.endswith("_FILE")}
    (mount,) = (m for m in container(overlay, workload)["volumeMounts"] if m["name"] == "secrets")
    assert {path.rsplit("/", 1)[0] for path in files.values()} == {mount["mountPath"]}
    assert overlay.chosen_files(workload) <= {path.rsplit("/", 1)[1] for path in files.values()}
    assert not {"SRED_EMAIL_POSTGRES_DSN", "SRED_EMAIL_REDIS_URL", "RESEND_API_KEY"} & set(environment)
    if overlay.all("Secret"):  # the overlay makes them itself: nothing is missing in them, and nothing is too much
        keys = {key for name in overlay.secrets(workload) for key in overlay.one("Secret", name)["data"]}
        assert keys == {path.rsplit("/", 1)[1] for path in files.values()}


@pytest.mark.parametrize("workload", ["ingress", "consumer"])
def test_ports_are_those_that_the_process_listens_on(overlay: Rendered, workload: str) -> None:
    ports = {port["name"]: port["containerPort"] for port in container(overlay, workload)["ports"]}
    assert ports == listens_on(workload)


def test_every_service_leads_to_a_port_of_pods_that_there_are(overlay: Rendered) -> None:
    pods = [workload["spec"]["template"] for workload in overlay.all("Deployment")]
    for service in overlay.all("Service"):
        selected = [pod for pod in pods if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()]
        assert len(selected) == 1, service["metadata"]["name"]
        offered = {p.get("name"): p["containerPort"] for c in selected[0]["spec"]["containers"] for p in c["ports"]}
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            assert target in offered or target in offered.values(), service["metadata"]["name"]


def test_every_selector_selects_one_of_our_workloads(overlay: Rendered) -> None:
    labels = [w["spec"]["template"]["metadata"]["labels"] for w in overlay.all("Deployment", "Job")]
    for resource in overlay.all("PodDisruptionBudget", "NetworkPolicy"):
        spec = resource["spec"]
        wanted = (spec.get("selector") or spec["podSelector"])["matchLabels"]
        assert [1 for label in labels if wanted.items() <= label.items()] == [1], resource["metadata"]["name"]
    for monitor in overlay.all("PodMonitor"):
        (expression,) = monitor["spec"]["selector"]["matchExpressions"]
        assert set(expression["values"]) <= {label["app.kubernetes.io/name"] for label in labels}
        assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} == {"http"}
    for scaler in overlay.all("HorizontalPodAutoscaler", "ScaledObject"):
        target = overlay.one("Deployment", scaler["spec"]["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"], "each apply would undo what the autoscaler did"


def test_liveness_asks_about_the_process_alone_and_readiness_about_its_work(overlay: Rendered) -> None:
    for workload in ("ingress", "consumer"):
        probes = container(overlay, workload)
        assert probes["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
        assert probes["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
        assert probes["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


@pytest.mark.parametrize("workload", ["ingress", "consumer"])
def test_the_drain_fits_into_the_grace_period(overlay: Rendered, workload: str) -> None:
    environment = overlay.environment(workload)
    before = container(overlay, workload).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    drain = float(environment["SRED_EMAIL_DRAIN_TIMEOUT"])
    assert overlay.pod(workload)["terminationGracePeriodSeconds"] >= before + drain + 10
    assert drain == ServiceSettings.model_fields["drain_timeout"].default.total_seconds()


def test_the_job_has_time_for_as_many_runs_as_it_makes(overlay: Rendered) -> None:
    job = overlay.one("Job", "sred-email-migrate")["spec"]
    pauses_s = sum(min(10 * 2**n, 300) for n in range(job["backoffLimit"]))  # as Kubernetes makes them
    runs_s = (job["backoffLimit"] + 1) * PATIENCE.total_seconds()
    assert job["activeDeadlineSeconds"] >= runs_s + pauses_s


def test_operators_reach_a_consumer_that_is_not_ready(overlay: Rendered) -> None:
    assert overlay.one("Service", "sred-email-consumer-operations")["spec"]["publishNotReadyAddresses"] is True
    assert not overlay.one("Service", "sred-email-ingress-headless")["spec"].get("publishNotReadyAddresses")
    assert overlay.one("Service", "sred-email-ingress-headless")["spec"]["clusterIP"] == "None"


def test_every_pod_is_restricted(overlay: Rendered) -> None:
    """As the profile restricted of the Pod Security Standards asks, and a root file system that nobody writes to."""
    for workload in overlay.all("Deployment", "Job"):
        pod = workload["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} <= {"projected", "emptyDir"}
        for one in pod["containers"]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(one["resources"]["requests"]) == {"cpu", "memory"}
            assert set(one["resources"]["limits"]) == {"memory"}


def test_our_processes_find_a_tmp_that_they_may_write_to(overlay: Rendered) -> None:
    for workload in WORKLOADS:
        assert "/tmp" in {mount["mountPath"] for mount in container(overlay, workload)["volumeMounts"]}  # noqa: S108


def test_a_rollout_takes_one_after_the_other_and_a_drain_of_nodes_too(overlay: Rendered) -> None:
    for workload in ("ingress", "consumer"):
        deployment = overlay.one("Deployment", f"sred-email-{workload}")
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        budget = overlay.one("PodDisruptionBudget", f"sred-email-{workload}")["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        spread = overlay.pod(workload)["topologySpreadConstraints"]
        assert {s["topologyKey"] for s in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        for constraint in spread:
            assert constraint["labelSelector"] == deployment["spec"]["selector"]


@pytest.mark.parametrize(
    ("path", "trigger_type", "keys"),
    [
        ("overlays/production", "redis-streams", ["address", "username", "password"]),
        ("overlays/production-redis-cluster", "redis-cluster-streams", ["addresses", "username", "password"]),
        (
            "overlays/production-redis-sentinel",
            "redis-sentinel-streams",
            ["addresses", "username", "password", "sentinelMaster", "sentinelUsername", "sentinelPassword"],
        ),
    ],
)
def test_keda_asks_for_the_length_of_each_lanes_stream(path: str, trigger_type: str, keys: list[str]) -> None:
    overlay = render(path)
    spec = overlay.one("ScaledObject", "sred-email-consumer")["spec"]
    prefix = overlay.environment("consumer")["SRED_EMAIL_REDIS_PREFIX"]
    lanes = [trigger for trigger in spec["triggers"] if trigger["type"] != "prometheus"]
    assert [trigger["type"] for trigger in lanes] == [trigger_type] * 3
    assert [trigger["metadata"]["stream"] for trigger in lanes] == [
        f"{prefix}:send:high",
        f"{prefix}:send",
        f"{prefix}:send:low",
    ]
    assert [set(trigger["metadata"]) for trigger in lanes] == [{"stream", "streamLength"}] * 3
    assert spec["minReplicaCount"] >= 1
    (authentication,) = {trigger["authenticationRef"]["name"] for trigger in lanes}
    references = overlay.one("TriggerAuthentication", authentication)["spec"]["secretTargetRef"]
    assert [(r["parameter"], r["name"], r["key"]) for r in references] == [(k, "sred-email-keda", k) for k in keys]


def test_on_a_cluster_all_keys_are_of_one_slot() -> None:
    prefix = render("overlays/production-redis-cluster").environment("ingress")["SRED_EMAIL_REDIS_PREFIX"]
    assert prefix == "{sred:email}"


WANTED = [
    # what waits in each lane, running, held, replicas; for how many replicas the formula asks
    ((0, 0, 0), 1, 0.0, 2, 0),
    ((100, 12_000, 8_000), 1, 0.0, 2, 5),
    ((0, 0, 100_000), 1, 0.1, 2, 20),
    ((0, 0, 100_000), 0, 0.0, 3, 3),  # delivery stands
    ((0, 0, 100_000), 1, 0.3, 3, 3),  # the provider's limit is the limit
    ((0, 4_000, 0), 0, 0.9, 5, 1),  # fewer are enough for what waits
]


@pytest.mark.parametrize(("waiting", "running", "held", "replicas", "wanted"), WANTED)
def test_the_formula_never_asks_for_more_replicas_while_delivery_stands_or_is_held(
    waiting: tuple[int, int, int], running: int, held: float, replicas: int, wanted: int
) -> None:
    spec = render("overlays/production").one("ScaledObject", "sred-email-consumer")["spec"]
    modifiers = spec["advanced"]["scalingModifiers"]
    condition, then, otherwise = re.fullmatch(r"(.+) \? (.+) : (.+)", modifiers["formula"]).groups()  # type: ignore[union-attr]
    in_python = f"({then}) if ({condition.replace('||', 'or').replace('&&', 'and')}) else ({otherwise})"
    names: dict[str, float] = {"high": waiting[0], "normal": waiting[1], "low": waiting[2]}
    names |= {"running": running, "held": held, "replicas": replicas}
    assert set(re.findall(r"[a-z]+", modifiers["formula"])) == set(names) == {t["name"] for t in spec["triggers"]}
    value = eval(in_python, {"__builtins__": {}}, names)  # noqa: S307 - our own formula
    assert -(-value // float(modifiers["target"])) == wanted


def test_keda_asks_prometheus_for_metrics_that_there_are_in_the_namespace_of_the_overlay() -> None:
    overlay = render("overlays/production")
    documented = set(
        re.findall(r"^\| `(\w+)` \|", (FOLDER.parents[1] / "docs" / "metrics.md").read_text(), re.MULTILINE)
    )
    scaled = overlay.one("ScaledObject", "sred-email-consumer")
    queries = [t["metadata"] for t in scaled["spec"]["triggers"] if t["type"] == "prometheus"]
    assert len(queries) == 3
    for metadata in queries:
        assert set(re.findall(r"sred_email_\w+", metadata["query"])) <= documented
        assert f'namespace="{scaled["metadata"]["namespace"]}"' in metadata["query"]
        assert metadata["ignoreNullValues"] == "false", "nothing to read is no 0"


def test_the_rules_and_the_dashboard_are_those_of_the_repository() -> None:
    overlay, observability = render("overlays/production"), FOLDER.parent / "observability"
    rules = yaml.safe_load((observability / "alerts.yaml").read_text())
    assert overlay.one("PrometheusRule", "sred-email")["spec"] == rules, "make generate mends this"
    dashboard = overlay.one("ConfigMap", "sred-email-dashboard")["data"]["dashboard.json"]
    assert dashboard == (observability / "dashboard.json").read_text()


def test_all_that_a_pod_may_be_asked_by_others_is_named_in_its_policy(overlay: Rendered) -> None:
    for policy in overlay.all("NetworkPolicy"):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        named = {p["port"] for rule in policy["spec"].get("ingress", []) for p in rule["ports"]}
        workload = policy["metadata"]["name"].removeprefix("sred-email-")
        offered = {port["name"] for port in container(overlay, workload).get("ports", [])}
        assert named == offered


def test_traces_have_a_way_to_the_collector_that_is_named() -> None:
    overlay = render("tests/mutual-tls-and-tracing")
    for workload in ("ingress", "consumer"):
        collector = urlsplit(overlay.environment(workload)["OTEL_EXPORTER_OTLP_ENDPOINT"])
        assert collector.hostname is not None
        namespace = {"kubernetes.io/metadata.name": collector.hostname.split(".")[1]}
        way = {
            "to": [{"namespaceSelector": {"matchLabels": namespace}}],
            "ports": [{"protocol": "TCP", "port": collector.port}],
        }
        assert way in overlay.one("NetworkPolicy", f"sred-email-{workload}")["spec"]["egress"]
    for other in overlay.all("NetworkPolicy"):
        assert ("4318" in str(other)) == (other["metadata"]["name"].removeprefix("sred-email-") in SETTINGS)


def test_the_console_shows_a_certificate_where_callers_must() -> None:
    overlay = render("tests/mutual-tls-and-tracing")
    for workload in ("ingress", "consumer"):
        assert "SRED_EMAIL_TLS_CLIENT_CA_FILE" in overlay.environment(workload)
    shown = {"SRED_EMAIL_TLS_CA_FILE", "SRED_EMAIL_TLS_CLIENT_CERT_FILE", "SRED_EMAIL_TLS_CLIENT_KEY_FILE"}
    assert shown <= set(overlay.environment("console"))
