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

void *rust_helper_iser_iscsi_host_priv(struct Scsi_Host *shost)
{
	return iscsi_host_priv(shost);
}

void *rust_helper_iser_iscsi_next_hdr(struct iscsi_task *task)
{
	return iscsi_next_hdr(task);
}

int rust_helper_iser_iscsi_task_has_unsol_data(struct iscsi_task *task)
{
	return iscsi_task_has_unsol_data(task);
}

bool rust_helper_iser_iscsi_task_is_completed(struct iscsi_task *task)
{
	return iscsi_task_is_completed(task);
}

struct Scsi_Host *rust_helper_iser_iscsi_session_to_shost(
		struct iscsi_cls_session *session)
{
	return iscsi_session_to_shost(session);
}

struct iscsi_cls_session *rust_helper_iser_iscsi_conn_to_session(
		struct iscsi_cls_conn *conn)
{
	return iscsi_conn_to_session(conn);
}

struct iscsi_cls_session *rust_helper_iser_starget_to_session(
		struct scsi_target *starget)
{
	return starget_to_session(starget);
}

struct iscsi_cls_conn *rust_helper_iser_iscsi_dev_to_conn(struct device *dev)
{
	return iscsi_dev_to_conn(dev);
}

void rust_helper_iser_hton24(u8 *p, u32 v)
{
	hton24(p, v);
}

u32 rust_helper_iser_ntoh24(const u8 *p)
{
	return ntoh24(p);
}
