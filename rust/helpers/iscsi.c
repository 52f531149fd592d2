// SPDX-License-Identifier: GPL-2.0
/*
 * libiscsi and the iSCSI transport class.
 */

#include <scsi/libiscsi.h>
#include <scsi/scsi_host.h>
#include <scsi/scsi_transport_iscsi.h>

struct iscsi_cmd *rust_helper_iser_iscsi_cmd(struct scsi_cmnd *cmd)
{
	return iscsi_cmd(cmd);
}

struct iscsi_cls_session *rust_helper_iser_starget_to_session(
		struct scsi_target *starget)
{
	return starget_to_session(starget);
}
