// SPDX-License-Identifier: GPL-2.0
/*
 * Functions for Rust that C offers only as static inlines and macros, one file
 * per subject. A helper does what its name says and nothing else.
 *
 * rust_helper_iser_<name> appears as <name> in the crate iser_bindings; the
 * prefix keeps the symbols apart from the kernel's own rust_helper_<name>.
 */

#include "dma.c"
#include "ib_verbs.c"
#include "iscsi.c"
#include "lock.c"
#include "log.c"
#include "rcu.c"
#include "rdma_cm.c"
#include "scsi.c"
#include "workqueue.c"
