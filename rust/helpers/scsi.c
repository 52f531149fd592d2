// SPDX-License-Identifier: GPL-2.0
/*
 * SCSI hosts and commands.
 */

#include <scsi/scsi_cmnd.h>
#include <scsi/scsi_device.h>
#include <scsi/scsi_host.h>

unsigned int rust_helper_iser_scsi_bufflen(struct scsi_cmnd *cmd)
{
	return scsi_bufflen(cmd);
}

struct scatterlist *rust_helper_iser_scsi_sglist(struct scsi_cmnd *cmd)
{
	return scsi_sglist(cmd);
}

unsigned int rust_helper_iser_scsi_sg_count(struct scsi_cmnd *cmd)
{
	return scsi_sg_count(cmd);
}

void rust_helper_iser_scsi_set_resid(struct scsi_cmnd *cmd, unsigned int resid)
{
	scsi_set_resid(cmd, resid);
}

void *rust_helper_iser_scsi_cmd_priv(struct scsi_cmnd *cmd)
{
	return scsi_cmd_priv(cmd);
}

struct request *rust_helper_iser_scsi_cmd_to_rq(struct scsi_cmnd *cmd)
{
	return scsi_cmd_to_rq(cmd);
}

unsigned int rust_helper_iser_scsi_prot_sg_count(struct scsi_cmnd *cmd)
{
	return scsi_prot_sg_count(cmd);
}

struct scatterlist *rust_helper_iser_scsi_prot_sglist(struct scsi_cmnd *cmd)
{
	return scsi_prot_sglist(cmd);
}

unsigned char rust_helper_iser_scsi_get_prot_op(struct scsi_cmnd *cmd)
{
	return scsi_get_prot_op(cmd);
}

unsigned int rust_helper_iser_scsi_transfer_length(struct scsi_cmnd *cmd)
{
	return scsi_transfer_length(cmd);
}

void rust_helper_iser_set_host_byte(struct scsi_cmnd *cmd, char status)
{
	set_host_byte(cmd, status);
}

void *rust_helper_iser_shost_priv(struct Scsi_Host *shost)
{
	return shost_priv(shost);
}

void rust_helper_iser_scsi_host_set_prot(struct Scsi_Host *shost,
					 unsigned int mask)
{
	scsi_host_set_prot(shost, mask);
}

void rust_helper_iser_scsi_host_set_guard(struct Scsi_Host *shost,
					  unsigned char type)
{
	scsi_host_set_guard(shost, type);
}

struct scsi_target *rust_helper_iser_scsi_target(struct scsi_device *sdev)
{
	return scsi_target(sdev);
}
