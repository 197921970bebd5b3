"""Take the pictures of docs/templates.md: every built-in template on a desktop and on a phone, light and dark.

    .venv/bin/python tools/picture_templates.py      needs Chromium; CHROMIUM names it if it is not on the PATH

Each template stands in a frame of its own, whose width is what its media queries see, and whose ``color-scheme`` is
what ``prefers-color-scheme`` answers there. Where there is pngquant, it makes the pictures small.
"""

import html
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from sred_email_templates import EmailTemplate, Product, load_templates

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "templates"
PRODUCT = Product(
    url="https://sredsimplify.example",
    support_address="help@sredsimplify.example",
    postal_address="1200 Rue Sainte-Catherine, Montréal",
)
SHEETS = (("desktop", 1000, 900, 3), ("phone", 390, 900, 6))
SCALE, GAP = 0.5, 12
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; padding: {gap}px; background: {ground}; display: flex; flex-wrap: wrap; gap: {gap}px }}
div {{ width: {shown_width}px; height: {shown_height}px; overflow: hidden; border-radius: 6px }}
iframe {{ border: 0; width: {width}px; height: {height}px; transform: scale({scale}); transform-origin: 0 0;
          color-scheme: {scheme} }}
</style>{frames}"""


def main() -> int:
    """Take all pictures; the exit code."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium on the PATH: name it with CHROMIUM=…", file=sys.stderr)
        return 1
    PICTURES.mkdir(exist_ok=True)
    templates = load_templates(PRODUCT).templates
    for scheme, ground in (("light", "#cbd5e1"), ("dark", "#334155")):
        for device, width, height, columns in SHEETS:
            frames = [_frame(template) for template in templates]
            shown_width, shown_height = int(width * SCALE), int(height * SCALE)
            page = PAGE.format(
                gap=GAP,
                ground=ground,
                width=width,
                height=height,
                shown_width=shown_width,
                shown_height=shown_height,
                scale=SCALE,
                scheme=scheme,
                frames="".join(frames),
            )
            rows = -(-len(frames) // columns)
            size = (columns * (shown_width + GAP) + GAP, rows * (shown_height + GAP) + GAP)
            _take(chromium, page, size, PICTURES / f"{device}-{scheme}.png")
    return 0


def _frame(template: EmailTemplate) -> str:
    email = template.render(template.declaration.examples)
    return f'<div><iframe srcdoc="{html.escape(email.html)}"></iframe></div>'


def _take(chromium: str, page: str, size: tuple[int, int], picture: Path) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        file.write_text(page, encoding="utf-8")
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}")
        window = f"--window-size={size[0]},{size[1]}"
        subprocess.run(
            [chromium, *options, window, f"--screenshot={picture}", file.as_uri()],
            check=True,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )
    pngquant = shutil.which("pngquant")
    if pngquant is not None:
        subprocess.run([pngquant, "--force", "--ext", ".png", "--strip", "64", str(picture)], check=True, timeout=60)
    print(f"{picture} {picture.stat().st_size // 1024} kB")


if __name__ == "__main__":
    sys.exit(main())
