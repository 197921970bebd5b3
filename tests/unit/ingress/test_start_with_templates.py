"""An ingress whose own templates are broken does not start, and says where to look."""

import os
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("SRED_EMAIL_", "RESEND_"))},
    "SRED_EMAIL_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/none",
    "SRED_EMAIL_REDIS_URL": "redis://127.0.0.1:1/0",
    "SRED_EMAIL_AUTH": "off",
}


def test_a_broken_template_ends_the_start_with_exit_code_2_and_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "welcome.mjml").write_text("<mj-section>\n{{ start_ulr }}</mj-section>\n")
    (tmp_path / "quota-warning.txt").write_text("{{ used }}\n\n{% if %}")
    ended = subprocess.run(
        [sys.executable, "-m", "sred_email_ingress"],
        env={**ENVIRONMENT, "SRED_EMAIL_TEMPLATES_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    first, second = [line for line in ended.stderr.splitlines() if line.startswith(str(tmp_path))]
    assert first.startswith(f"{tmp_path}/quota-warning.txt:3: ")
    assert second == f"{tmp_path}/welcome.mjml:2: start_ulr is no variable that the template declares"
