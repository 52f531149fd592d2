# SPDX-License-Identifier: GPL-2.0
"""How two machines talk while a test runs: one call a line, over TCP.

The target serves functions by name; the initiator waits for it and calls
them, for instance to take a portal away in the middle of I/O.

    target:     peer.serve({"stop": lambda: target.down()})
    initiator:  peer.wait(network.target_ipv4); peer.call(network.target_ipv4, "stop")
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

from lab.guest.system import wait_for
from lab.report import LabError

PORT = 7777


def serve(functions: Mapping[str, Callable[..., Any]], port: int = PORT) -> None:
    """Answer calls, one at a time, until `end` is called."""
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile("rw", encoding="utf-8") as line:
                text = line.readline()
                if not text:
                    continue
                name, arguments = json.loads(text)
                answer: dict[str, Any]
                if name in ("ping", "end"):
                    answer = {"value": name}
                else:
                    try:
                        answer = {"value": functions[name](*arguments)}
                    except KeyError:
                        answer = {"error": f"the other machine serves no {name}"}
                    except (LabError, OSError) as exc:
                        answer = {"error": str(exc)}
                line.write(json.dumps(answer) + "\n")
            if name == "end":
                return


def call(host: str, name: str, *arguments: Any, timeout: float = 60) -> Any:
    """Call a function of the other machine."""
    with socket.create_connection((host, PORT), timeout) as connection, \
            connection.makefile("rw", encoding="utf-8") as line:
        line.write(json.dumps([name, list(arguments)]) + "\n")
        line.flush()
        answer = json.loads(line.readline() or '{"error": "the other machine hung up"}')
    if "error" in answer:
        raise LabError(f"{name} on {host}: {answer['error']}")
    return answer["value"]


def wait(host: str, timeout: float = 90) -> None:
    """Wait until the other machine serves."""
    def serves() -> bool:
        try:
            return bool(call(host, "ping", timeout=2) == "ping")
        except OSError:
            return False
    wait_for(f"{host} is ready", serves, timeout, pause=0.2)
