# SPDX-License-Identifier: GPL-2.0
"""List the files that are this project's: what git tracks or would offer to add.

    python3 -m build.files PATTERN…     prints those whose name fits a pattern

Without git, or where git cannot read the repository (a release tarball, a worktree
seen from inside a root), the tree is walked and what builds make is left out.
"""

from __future__ import annotations

import fnmatch
import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent

# What the walk leaves out; dot files but those named here as well.
MADE = ("*.o", "*.ko", "*.mod", "*.mod.c", "*.rmeta", "*.d", "*.pyc", "*_generated.rs",
        "Module.symvers", "modules.order", "symbols.checked", "blocklist.args")
MADE_DIRECTORIES = ("target", "__pycache__", "doc")
DOT_FILES = (".gitignore", ".rustfmt.toml", ".clippy.toml")
DOT_DIRECTORIES = (".ci",)


def _from_git(top: Path) -> list[str] | None:
    command = ["git", "-c", f"safe.directory={top}", "-C", str(top), "ls-files", "-z",
               "--cached", "--others", "--exclude-standard"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    if result.returncode:
        return None
    return sorted(set(filter(None, result.stdout.split("\0"))))


def walk(top: Path) -> list[str]:
    """Return the files below `top` that no build made."""
    found = []
    for directory, subdirectories, names in os.walk(top):
        subdirectories[:] = [
            name for name in subdirectories
            if name not in MADE_DIRECTORIES
            and (not name.startswith(".") or name in DOT_DIRECTORIES)
        ]
        for name in names:
            if name.startswith(".") and name not in DOT_FILES:
                continue
            if not any(fnmatch.fnmatch(name, pattern) for pattern in MADE):
                found.append(os.path.relpath(os.path.join(directory, name), top))
    return sorted(found)


def project_files(top: Path = TOP) -> list[str]:
    """Return the paths of the project's files, relative to `top`."""
    listed = _from_git(top)
    if listed is None:
        listed = walk(top)
    return [name for name in listed if (top / name).is_file() and not (top / name).is_symlink()]


def matching(names: list[str], *patterns: str) -> list[str]:
    """Return those whose last part fits one of `patterns`."""
    return [name for name in names
            if any(fnmatch.fnmatch(name.rsplit("/", 1)[-1], pattern) for pattern in patterns)]


if __name__ == "__main__":
    print("\n".join(matching(project_files(), *sys.argv[1:])))
