# SPDX-License-Identifier: GPL-2.0
"""What the transport class answers, as iscsi_if_rx() and iscsi_if_send_reply() of the kernel write it."""

import errno
import unittest

from lab.guest import orphans
from lab.guest.orphans import STOP_CONN

CONN_ERROR, IF_ERROR = 102, 103  # enum iscsi_uevent_e


def message(header: int, event: int, error: int) -> bytes:
    """A message of the kernel."""
    body = orphans.FIXED.pack(event, error, 1).ljust(orphans.EVENT_LENGTH, b"\0")
    return orphans.HEADER.pack(orphans.HEADER.size + len(body), header, 0, 0, 0) + body


class AnswerTest(unittest.TestCase):
    """What ends the wait for an answer."""

    def test_success(self) -> None:
        self.assertEqual(orphans.answered(message(STOP_CONN, STOP_CONN, 0), STOP_CONN), 0)

    def test_refusal(self) -> None:
        """A session may have no connection to stop; the event in the answer is another then."""
        refusal = message(STOP_CONN, IF_ERROR, -errno.EINVAL)
        self.assertEqual(orphans.answered(refusal, STOP_CONN), -errno.EINVAL)

    def test_another(self) -> None:
        self.assertIsNone(orphans.answered(message(CONN_ERROR, CONN_ERROR, 0), STOP_CONN))


if __name__ == "__main__":
    unittest.main()
