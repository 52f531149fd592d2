/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The headers that bindgen reads for the crate iser_bindings, sorted, and the
 * constants that it cannot evaluate by itself (as RUST_CONST_HELPER_<name>;
 * Rust sees <name>).
 */

#include <linux/completion.h>
#include <linux/inet.h>
#include <linux/in6.h>
#include <linux/moduleparam.h>
#include <linux/scatterlist.h>
#include <linux/sched/mm.h>
#include <linux/socket.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>
#include <rdma/ib_cm.h>
#include <rdma/ib_verbs.h>
#include <rdma/rdma_cm.h>
#include <scsi/iscsi_if.h>
#include <scsi/iscsi_proto.h>
#include <scsi/libiscsi.h>
#include <scsi/scsi.h>
#include <scsi/scsi_cmnd.h>
#include <scsi/scsi_device.h>
#include <scsi/scsi_host.h>
#include <scsi/scsi_tcq.h>
#include <scsi/scsi_transport_iscsi.h>

const gfp_t RUST_CONST_HELPER_GFP_NOIO = GFP_NOIO;
