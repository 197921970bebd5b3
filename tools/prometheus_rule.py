"""Write the alert rules as the object that the Prometheus operator takes: alerts.yaml stays the one source."""

import sys
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


def main() -> int:
    """Write prometheus-rule.yaml; with --check only say whether that would change it."""
    _, rules = (FOLDER / "alerts.yaml").read_text(encoding="utf-8").split("groups:\n", 1)
    indented = "".join(f"  {line}" if line.strip() else line for line in f"groups:\n{rules}".splitlines(keepends=True))
    target = FOLDER / "prometheus-rule.yaml"
    if sys.argv[1:] == ["--check"]:
        if target.read_text(encoding="utf-8") == HEAD + indented:
            return 0
        print("prometheus-rule.yaml does not follow alerts.yaml: make generate mends this")
        return 1
    target.write_text(HEAD + indented, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
