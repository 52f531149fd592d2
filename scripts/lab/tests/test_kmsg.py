# SPDX-License-Identifier: GPL-2.0
"""Lines of kernel logs, good and bad."""

import unittest

from lab import kmsg

# What Linux 7.3 prints, a line for each kind of report.
BAD = """\
WARNING: drivers/infiniband/sw/rxe/rxe_comp.c:770 at rxe_completer+0xd7/0xe0 [rdma_rxe], CPU#0: kworker/0:0H/10
BUG: kernel NULL pointer dereference, address: 0000000000000008
BUG: unable to handle page fault for address: ffffc90000123000
Oops: 0000 [#1] SMP NOPTI
Oops: general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1] SMP KASAN
traps: tgtd[811] general protection fault ip:7f0 sp:7ff error:0 in librdmacm.so.1.3.56.1[5f0,7f0+14000]
Kernel panic - not syncing: Fatal exception in interrupt
kernel BUG at mm/slub.c:563!
Call Trace:
refcount_t: underflow; use-after-free.
percpu ref (css_release) <= 0 (-1) after switching to atomic
BUG: KASAN: slab-use-after-free in isert_cma_handler+0x12a/0x5b0 [ib_isert]
UBSAN: shift-out-of-bounds in lib/x.c:12:3
BUG: KCSAN: data-race in f / g
DMA-API: rxe0 rxe0: device driver frees DMA memory with different size [device address=0x1] [map size=8 bytes]
ODEBUG: free active (active state 0) object: ffff888012345678 object type: timer_list hint: conn_timer+0x0/0x50
ODEBUG: Out of memory. ODEBUG disabled
list_add corruption. next->prev should be prev (ffff), but was 0000. (next=ffff).
list_del corruption, ffff888012345678->next is LIST_POISON1 (dead000000000100)
WARNING: possible recursive locking detected
WARNING: possible circular locking dependency detected
WARNING: possible irq lock inversion dependency detected
WARNING: suspicious RCU usage
WARNING: inconsistent lock state
WARNING: bad unlock balance detected!
WARNING: held lock freed!
[ BUG: Invalid wait context ]
INFO: trying to register non-static key.
turning off the locking correctness validator.
BUG: MAX_LOCKDEP_CHAINS too low!
INFO: task iscsid:123 blocked for more than 120 seconds.
INFO: task fio:99 blocked in I/O wait for more than 120 seconds.
INFO: task fio:99 is blocked on a mutex likely owned by task dd:98.
INFO: The task kworker/u8:1:55 has been waiting for writeback completion for more than 120 seconds.
watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [fio:812]
watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1
BUG: workqueue lockup - pool cpus=1 node=0 flags=0x0 nice=0 stuck for 33s!
rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
rcu: INFO: rcu_preempt self-detected stall on CPU
rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-...D } 21 jiffies s: 17 root: 0x2/.
INFO: rcu_tasks detected stalls on tasks:
BUG kmalloc-64 (Tainted: G           O       ): Right Redzone overwritten
BUG iser_cmds (Not tainted): Objects remaining on __kmem_cache_shutdown()
kmem_cache_destroy iser_cmds: Slab cache still has objects when called from f+0x1/0x2 [ib_iser_rs]
kmemleak: Kernel memory leak detector disabled
irq 11: nobody cared (try booting with the "irqpoll" option)
rust_kernel: panicked at drivers/infiniband/ulp/iser_rs/x.rs:3:5:
BUG: sleeping function called from invalid context at mm/slab.h:321
BUG: scheduling while atomic: fio/812/0x00000002
Trying to vfree() nonexistent vm area (00000000deadbeef)
BUG: Bad page state in process fio  pfn:12345
fio: page allocation failure: order:4, mode:0x40dc0(GFP_KERNEL|__GFP_ZERO), nodemask=(null)
Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: f+0x1/0x2""".splitlines()

GOOD = """\
Kernel command line: console=ttyS0 oops=panic kasan_multi_shot
rdma_rxe: loaded
ib_iser_rs: loading out-of-tree module taints kernel.
iser0 speed is unknown, defaulting to 1000
RAS: Correctable Errors collector initialized.
kasan: KernelAddressSanitizer initialized (generic)
kmemleak: Kernel memory leak detector initialized (mem pool available: 39131)
kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)
DMA-API: preallocated 65536 debug entries
DMA-API: debugging enabled by kernel config
rcu: \tRCU lockdep checking is enabled.
Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar
watchdog: Delayed init of the lockup detector failed: -19
workqueue: ib_cq_poll_work [ib_core] hogged CPU for >10000us 4 times, consider switching to WQ_UNBOUND
hrtimer: interrupt took 10123456 ns
clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable because the skew is too large:
 connection1:0: detected conn error (1011)
iscsi: ping timeout of 5 secs expired, recv timeout 5, last rx 4294938, last ping 4294939, now 4294940
EXT4-fs (sda): mounted filesystem 1f0 r/w with ordered data mode. Quota mode: none.
sd 0:0:0:0: [sda] tag#5 FAILED Result: hostbyte=DID_TRANSPORT_DISRUPTED driverbyte=DRIVER_OK cmd_age=2s
 session1: session recovery timed out after 15 secs
sysrq: Show Blocked State""".splitlines()


class LinesTest(unittest.TestCase):
    """Each line by itself."""

    def test_good(self) -> None:
        self.assertEqual(kmsg.bad_lines(GOOD), [])

    def test_bad(self) -> None:
        for row in BAD:
            self.assertEqual(kmsg.bad_lines([f"[  1.0] {row}"]), [f"[  1.0] {row}"])

    def test_panic(self) -> None:
        rows = ["[ 1.0] Kernel panic - not syncing: Fatal exception in interrupt"]
        self.assertEqual(kmsg.panic_reason(rows), "Fatal exception in interrupt")
        self.assertIsNone(kmsg.panic_reason(GOOD))

    def test_after_boot(self) -> None:
        self.assertEqual(kmsg.after_boot(["a", f"[1] {kmsg.BOOTED}", "b"]), ["b"])
        self.assertEqual(kmsg.after_boot(["a", "b"]), ["a", "b"])


if __name__ == "__main__":
    unittest.main()
