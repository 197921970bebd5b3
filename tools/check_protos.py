"""Check the protos: lint, format, generated code, and that no caller breaks. Part of ``make check``.

Callers are compared with the last landing: ``origin/main`` where there is one, otherwise the last commit.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
GENERATED = Path("shared/client/src")


def main() -> int:
    """Run every check, also after one has failed, and print what is wrong.

    Returns:
        The exit code: 0 if all is well, otherwise 1.
    """
    results = [check_lint(), check_format(), check_generated(), check_breaking()]
    return 0 if all(results) else 1


def check_lint() -> bool:
    """Tell whether the protos follow the rules of buf.yaml."""
    return _buf("lint")


def check_format() -> bool:
    """Tell whether the protos are formatted."""
    return _buf("format", "--diff", "--exit-code") or _fail("make format mends this")


def check_generated() -> bool:
    """Tell whether the generated code is what the protos give now."""
    with TemporaryDirectory() as temporary:
        if not _buf("generate", "--output", temporary):
            return False
        expected = _generated_files(Path(temporary, GENERATED))
    actual = _generated_files(ROOT / GENERATED)
    changed = sorted(path for path, content in expected.items() if actual.get(path) != content)
    left_over = sorted(actual.keys() - expected.keys())
    for path in changed:
        _fail(f"{GENERATED / path} is not what the protos give: make generate mends this")
    for path in left_over:
        _fail(f"{GENERATED / path} comes from no proto: remove it")
    return not changed and not left_over


def check_breaking() -> bool:
    """Tell whether what callers were built against still works.

    git archive reads the landing, not buf itself: that works in shallow clones and linked worktrees too.
    """
    landing = _last_landing()
    if landing is None:
        print("protos: there is no landing to compare with yet")
        return True
    with TemporaryDirectory() as temporary:
        archive = Path(temporary, "landing.tar")
        if _git("archive", "--format=tar", f"--output={archive}", landing) is None:
            return _fail(f"git could not read {landing}")
        return _buf("breaking", "protos", "--against", f"{archive}#subdir=protos") or _fail(
            f"this breaks callers built against {landing}: add, never rename, renumber or remove"
        )


def _last_landing() -> str | None:
    """Name the commit that callers may have, or None if it has no protos (or this is no git checkout)."""
    refs = ("refs/remotes/origin/main", "HEAD")
    ref = next((ref for ref in refs if _git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")), None)
    return ref if ref and _git("ls-tree", ref, "protos/sred") else None


def _generated_files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for pattern in ("*_pb2*.py", "*_pb2*.pyi")
        for path in directory.rglob(pattern)
    }


def _buf(*arguments: str) -> bool:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
    return subprocess.run([BIN / "buf", *arguments], cwd=ROOT, env=environment, check=False).returncode == 0


def _git(*arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    result = subprocess.run([git, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout if result.returncode == 0 else None


def _fail(message: str) -> bool:
    print(f"protos: {message}", file=sys.stderr)
    return False


if __name__ == "__main__":
    sys.exit(main())
