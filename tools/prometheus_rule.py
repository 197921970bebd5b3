"""Write the alert rules as the object that the Prometheus operator takes: alerts.yaml stays the one source."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "observability"
HEAD = """\
# Made of alerts.yaml by make generate: edit that.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: sred-email
spec:
"""


def main() -> None:
    """Write prometheus-rule.yaml."""
    _, rules = (FOLDER / "alerts.yaml").read_text(encoding="utf-8").split("groups:\n", 1)
    indented = "".join(f"  {line}" if line.strip() else line for line in f"groups:\n{rules}".splitlines(keepends=True))
    (FOLDER / "prometheus-rule.yaml").write_text(HEAD + indented, encoding="utf-8")


if __name__ == "__main__":
    main()
