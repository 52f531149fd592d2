#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""CHAP: one way and mutual, and every way in which a secret can be wrong."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from harness import program
from harness.case import BOTH, case, check
from harness.env import AFTER_A_REFUSAL, Env
from lab.guest import disk, initiator
from lab.guest.lio import Chap

ONE_WAY = Chap("user", "secret-of-user")
MUTUAL = Chap("user", "secret-of-user", "target", "secret-of-target")
# tgtd may crash in a login; iscsid shall not go on asking for it for minutes.
LOGIN = {"lio": AFTER_A_REFUSAL, "tgt": {"node.session.initial_login_retry_max": 1}}
# What iscsiadm says. LIO hangs up right after it has posted the response that refuses the
# login, which then is sent or is not, with either driver.
DENIED = {"lio": ("authorization failure", "timed out"), "tgt": ("authorization failure",)}
# Its words for a target that cannot prove itself.
BROKEN_OFF = dict.fromkeys(("lio", "tgt"), ("non-retryable iSCSI login failure",))


@contextmanager
def served(env: Env, chap: Chap) -> Iterator[None]:
    """A target of the kind under test that asks for CHAP."""
    if env.kind == "lio":
        env.lio(chap=chap)
    else:
        env.tgt(chap=chap)
    # tgtd must look at its completions before it gets the next request.
    with initiator.in_idle_time() if env.kind == "tgt" else nullcontext():
        yield


def denied(env: Env, why: tuple[str, ...], chap: Chap | None = None) -> None:
    """The login fails, for the reason that an administrator has to know, and leaves nothing."""
    said = env.refused(env.node(), chap=chap)
    check(any(text in said for text in why), f"iscsiadm does not give the reason: {said}")


@case(BOTH, limit=90)
def one_way(env: Env) -> None:
    """The target asks who we are."""
    with served(env, ONE_WAY), env.session(LOGIN[env.kind], chap=ONE_WAY) as session:
        disk.fio_verify(session.disks()[0], bs="4k", size="1m")


@case(BOTH, limit=90)
def mutual(env: Env) -> None:
    """Both prove who they are."""
    with served(env, MUTUAL), env.session(LOGIN[env.kind], chap=MUTUAL) as session:
        disk.fio_verify(session.disks()[0], bs="4k", size="1m")


@case(BOTH, limit=120, each={
    "secret": (Chap("user", "not-the-secret"), DENIED),
    "user": (Chap("nobody", "secret-of-user"), DENIED),
    "target-secret": (Chap("user", "secret-of-user", "target", "not-the-secret"), BROKEN_OFF)})
def wrong(env: Env, what: tuple[Chap, dict[str, tuple[str, ...]]]) -> None:
    """A wrong secret of either side, or a wrong name, fails the login; the right one works after."""
    chap, why = what
    with served(env, MUTUAL):
        denied(env, why[env.kind], chap)
        with env.session(LOGIN[env.kind], chap=MUTUAL):
            pass


@case(BOTH, limit=120)
def none(env: Env) -> None:
    """Without CHAP there is no login to a target that asks for it."""
    with served(env, ONE_WAY):
        denied(env, DENIED[env.kind])


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
