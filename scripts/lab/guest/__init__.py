# SPDX-License-Identifier: GPL-2.0
"""The part that runs next to the driver: in the virtual machine, or on a real one.

Tests, the demo and the benchmarks use these modules, so that setting up a
network, a target or a session is written down once:

    system     commands, files of sysfs and configfs, waiting
    kernlog    marks in the kernel log, and the judgement of what came after
    net        an rxe or siw device on a dummy or virtio netdev
    wire       two RDMA devices with a switch between them, which can be cut
    driver     which initiator driver, loaded how, unloaded when
    lio, tgt   the two targets
    initiator  open-iscsi: discovery, login, sessions, disks
    disk       file systems, checksums and fio on a disk
    demo       the steps of `make demo`

Only the standard library is used, and Python 3.9 is enough.
"""
