# SPDX-License-Identifier: GPL-2.0
"""The checks of `make lint`, and that `make help` knows every verb."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from build import files, lint


class Checks(unittest.TestCase):
    """What is complained of, and what is not."""

    def test_licence(self) -> None:
        good = "#!/bin/sh\n# SPDX-License-Identifier: GPL-2.0\n"
        self.assertEqual(lint.licence_complaint("a.sh", good), "")
        self.assertEqual(lint.licence_complaint("README.md", "<!-- SPDX-License-Identifier: GPL-2.0 -->\n"), "")
        self.assertEqual(lint.licence_complaint("tests/host/Cargo.lock", "version = 4\n"), "")
        self.assertIn("a.sh:1:", lint.licence_complaint("a.sh", "#!/bin/sh\n\n\n" + good))
        self.assertIn("GPL-2.0", lint.licence_complaint("a.rs", "// SPDX-License-Identifier: MIT\n"))

    def test_text(self) -> None:
        self.assertEqual(lint.text_complaints("a.py", "x = 1\n"), [])
        self.assertIn("a.py:2: white space at the end of the line", lint.text_complaints("a.py", "x\ny \n"))
        self.assertEqual(lint.text_complaints("a.py", "x"), ["a.py: no newline at the end"])
        self.assertEqual(lint.text_complaints("a.py", "x\n\n"), ["a.py: empty lines at the end"])
        self.assertTrue(lint.text_complaints("a.rs", "x\n" * 501))
        self.assertEqual(lint.text_complaints("a.md", "x\n" * 501), [])

    def test_missing_tool(self) -> None:
        self.assertIn("not found", lint.complaints(["no-such-tool-of-anyone"]))

    def test_complaints(self) -> None:
        self.assertEqual(lint.complaints(["true"]), "")
        self.assertEqual(lint.complaints(["false"]), "false: exit status 1")


class Report(unittest.TestCase):
    """KTAP, and an exit status that can be believed."""

    def run_checks(self, **checks: str | lint.Skip) -> tuple[int, str]:
        def make(outcome: str | lint.Skip) -> mock.Mock:
            return mock.Mock(side_effect=outcome) if isinstance(outcome, lint.Skip) \
                else mock.Mock(return_value=outcome)

        with mock.patch.dict(lint.CHECKS, {n: make(o) for n, o in checks.items()}), \
             mock.patch.object(lint, "_failed", set()), \
             contextlib.redirect_stdout(io.StringIO()) as out:
            return lint.report(list(checks)), out.getvalue()

    def test_pass(self) -> None:
        status, text = self.run_checks(a="", b=lint.Skip("no kernel"))
        self.assertEqual(status, 0)
        self.assertEqual(text, "KTAP version 1\n1..2\nok 1 a\nok 2 b # SKIP no kernel\n"
                               "# lint: 1 passed, 0 failed, 1 skipped\n")

    def test_fail(self) -> None:
        status, text = self.run_checks(a="a.c:1: odd\n", b="")
        self.assertEqual(status, 1)
        self.assertIn("# a.c:1: odd\nnot ok 1 a\nok 2 b\n", text)

    def test_nothing_ran(self) -> None:
        self.assertEqual(self.run_checks(a=lint.Skip("no tool"))[0], 1)


class Files(unittest.TestCase):
    """Which files are the project's."""

    def test_walk(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            top = Path(name)
            for path in ("a.rs", "a.o", ".a.o.cmd", ".clippy.toml", ".ci/run", ".git/config",
                         "tests/host/target/x.rs", "rust/x_generated.rs", "b/__pycache__/c.pyc"):
                (top / path).parent.mkdir(parents=True, exist_ok=True)
                (top / path).write_text("", encoding="utf-8")
            self.assertEqual(files.walk(top), [".ci/run", ".clippy.toml", "a.rs"])

    def test_matching(self) -> None:
        self.assertEqual(files.matching(["a/b.c", "a/b.h", "c/b.rs"], "*.c", "*.h"), ["a/b.c", "a/b.h"])


class Help(unittest.TestCase):
    """The Makefile documents its verbs."""

    def test_every_verb(self) -> None:
        makefile = (files.TOP / "Makefile").read_text(encoding="utf-8")
        text = "\n".join(re.findall(r"^#:(.*)$", makefile, re.MULTILINE))
        verbs = {verb for line in re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
                 for verb in line.split()}
        for verb in sorted(verbs - {"module", "help"}):
            self.assertRegex(text, rf"(?m)^   {verb} ", verb)


if __name__ == "__main__":
    unittest.main()
