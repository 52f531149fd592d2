#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""CHAP: one way and mutual, and every way in which a secret can be wrong."""

import sys

from harness import program
from harness.case import BOTH, case
from harness.env import AFTER_A_REFUSAL, Env
from lab.guest import disk, initiator
from lab.guest.lio import Chap
from lab.report import LabError

ONE_WAY = Chap("user", "secret-of-user")
MUTUAL = Chap("user", "secret-of-user", "target", "secret-of-target")


def serve(env: Env, chap: Chap) -> None:
    """A target of the kind under test that asks for CHAP."""
    if env.kind == "lio":
        env.lio(chap=chap)
    else:
        env.tgt(chap=chap)


def accepted(env: Env) -> None:
    """The right names and secrets."""
    with env.session(AFTER_A_REFUSAL, chap=MUTUAL):
        pass


@case(BOTH)
def one_way(env: Env) -> None:
    """The target asks who we are."""
    serve(env, ONE_WAY)
    with env.session(chap=ONE_WAY) as session:
        disk.fio_verify(session.disks()[0], bs="4k", size="1m")


@case(BOTH)
def mutual(env: Env) -> None:
    """Both prove who they are."""
    serve(env, MUTUAL)
    with env.session(chap=MUTUAL) as session:
        disk.fio_verify(session.disks()[0], bs="4k", size="1m")


@case(BOTH, limit=120, each={
    "secret": Chap("user", "not-the-secret"),
    "user": Chap("nobody", "secret-of-user"),
    "target-secret": Chap("user", "secret-of-user", "target", "not-the-secret")})
def wrong(env: Env, chap: Chap) -> None:
    """A wrong secret of either side, or a wrong name, fails the login; the right one works after."""
    serve(env, MUTUAL)
    node = env.node()
    env.refused(node, chap=chap)
    try:
        accepted(env)
    except LabError:
        # The login after a refused one crashes tgtd at times, with either driver
        # (a segmentation fault at the same instruction each time): a new one is asked.
        if not env.tgt_has_crashed():
            raise
        print("# tgtd has crashed; once more, with a new one", flush=True)
        initiator.iscsiadm(*initiator.of(node), "--logout", check=False)
        env.drop_target()
        serve(env, MUTUAL)
        accepted(env)


@case(BOTH, limit=120)
def none(env: Env) -> None:
    """Without CHAP there is no login to a target that asks for it."""
    serve(env, ONE_WAY)
    env.refused(env.node())


if __name__ == "__main__":
    sys.exit(program.main(__doc__))
