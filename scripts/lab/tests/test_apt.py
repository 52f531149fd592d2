# SPDX-License-Identifier: GPL-2.0
"""What apt says, and what the lab makes of it."""

import io
import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from lab import apt
from lab.cache import Cache
from lab.report import LabError, Reporter

POLICY = """linux-headers-7.3.4+deb13-amd64:
  Installed: (none)
  Candidate: 7.3.4-1~bpo13+1
  Version table:
     7.3.4-1~bpo13+1 100
gone:
  Installed: (none)
  Candidate: (none)
"""

RECORD = """Package: linux-image-7.3.4+deb13-amd64
Depends: initramfs-tools (>= 0.120) | dracut, linux-base-7.3.4+deb13-amd64 (= 7.3.4-1), \
linux-binary-7.3.4+deb13-amd64 (= 7.3.4-1), linux-base (>= 4.5)
"""


class AptTest(unittest.TestCase):
    """Parsing and choosing."""

    def test_mirror(self) -> None:
        table = ("http://m/debian-security/|Debian|bookworm-security\n"
                 "http://m/debian/|Debian|bookworm-updates\n"
                 "http://other/ubuntu/|Ubuntu|noble\nhttp://m/debian/|Debian|bookworm\n")
        self.assertEqual(apt.pick_mirror(table), "http://m/debian")

    def test_no_mirror(self) -> None:
        with self.assertRaisesRegex(LabError, "ISER_MIRROR"):
            apt.pick_mirror("http://m/ubuntu/|Ubuntu|noble\n")

    def test_policy(self) -> None:
        self.assertEqual(apt.parse_policy(POLICY),
                         {"linux-headers-7.3.4+deb13-amd64": "7.3.4-1~bpo13+1"})

    def test_kernel_names(self) -> None:
        good = ("linux-headers-7.3.4+deb13-amd64", "linux-headers-6.12.9-1-amd64")
        bad = ("linux-headers-7.3.4+deb13-rt-amd64", "linux-headers-amd64",
               "linux-headers-7.3.4+deb13-cloud-amd64", "linux-headers-7.3.4+deb13-common")
        self.assertTrue(all(apt.KERNEL_RE.match(n) for n in good))
        self.assertFalse(any(apt.KERNEL_RE.match(n) for n in bad))

    def test_newest_first(self) -> None:
        self.assertEqual(apt.newest_first({"a": "7.3.4-1~bpo13+1", "b": "7.10.1-1~bpo13+1",
                                           "c": "7.3.4-2~bpo13+1"}), ["b", "c", "a"])

    def test_rust(self) -> None:
        self.assertTrue(apt.config_has_rust("CONFIG_A=y\nCONFIG_RUST=y\n"))
        self.assertFalse(apt.config_has_rust("# CONFIG_RUST is not set\nCONFIG_RUST_IS=y\n"))

    def test_same_version(self) -> None:
        self.assertEqual(apt.same_version(RECORD, "7.3.4+deb13-amd64", "7.3.4-1"),
                         ["linux-base-7.3.4+deb13-amd64", "linux-binary-7.3.4+deb13-amd64"])


class OfflineTest(unittest.TestCase):
    """Without a network the last known answer is used, and that is said."""

    def test_last_known(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            cache = Cache(Path(directory))
            said = io.StringIO()
            answer = apt.Versions("http://m", "7.3.4+deb13-amd64", "7.3.4-1", "linux-source-7.3", {})
            with mock.patch.object(apt, "mirror", return_value="http://m"), \
                    mock.patch.object(apt, "PrivateApt") as private, \
                    mock.patch.object(apt, "ask", return_value=answer):
                self.assertEqual(apt.versions(cache, Reporter(said)), answer)
                private.return_value.update.side_effect = LabError("no network")
                os.utime(cache.root / "apt/versions.json", (0, 0))
                self.assertEqual(apt.versions(cache, Reporter(said)), answer)
            self.assertIn("last known kernel, 7.3.4+deb13-amd64", said.getvalue())

    def test_never_known(self) -> None:
        with tempfile.TemporaryDirectory() as directory, \
                mock.patch.object(apt, "mirror", side_effect=LabError("no mirror")), \
                self.assertRaisesRegex(LabError, "no mirror"):
            apt.versions(Cache(Path(directory)), Reporter(io.StringIO()))


if __name__ == "__main__":
    unittest.main()
