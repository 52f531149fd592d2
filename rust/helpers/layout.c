// SPDX-License-Identifier: GPL-2.0
/*
 * The C side of the layout assertions: sizes and offsets that the Rust crates
 * rely on, stated once here and once as const assertions in Rust.
 */

#include <linux/build_bug.h>
#include <rdma/ib_verbs.h>
#include <rdma/rdma_cm.h>
#include <scsi/iscsi_proto.h>
#include <scsi/libiscsi.h>
#include <scsi/scsi_cmnd.h>

/* RFC 7143: every basic header segment is 48 bytes. */
static_assert(sizeof(struct iscsi_hdr) == 48);
static_assert(sizeof(struct iscsi_scsi_req) == 48);
static_assert(sizeof(struct iscsi_scsi_rsp) == 48);
static_assert(sizeof(struct iscsi_data) == 48);

/* The crate iscsi puts its own data behind these. */
static_assert(sizeof(struct iscsi_task) % __alignof__(u64) == 0);
static_assert(sizeof(struct iscsi_conn) % __alignof__(u64) == 0);

/* The interface to user space, of which bindgen sees no macros with values in parentheses. */
static_assert(STOP_CONN_TERM == 1);
static_assert(STOP_CONN_RECOVER == 3);
