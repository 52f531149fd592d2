# SPDX-License-Identifier: GPL-2.0
"""Asking the host to do something to this machine or to its peer; see `lab.hand`."""

from __future__ import annotations

import itertools
import json
import os
import threading
from pathlib import Path
from typing import Any

from lab.guest.system import wait_for
from lab.hand import ANSWERED, ASKED, leave
from lab.report import LabError

_serial = itertools.count(1)
_lock = threading.Lock()


def ask(name: str, *arguments: Any, timeout: float = 120) -> Any:
    """Have it done, and return what came of it."""
    out = Path(os.environ["ISER_OUT"])
    # Answers come in the order of the questions.
    with _lock:
        number = next(_serial)
        leave(out / f"{ASKED}-{number}", [name, list(arguments)])
        path = out / f"{ANSWERED}-{number}"
        wait_for(f"the host's answer to {name}", path.exists, timeout, pause=0.1)
    answer = json.loads(path.read_text(encoding="utf-8"))
    if "error" in answer:
        raise LabError(f"{name}: {answer['error']}")
    return answer["value"]
