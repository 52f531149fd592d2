// SPDX-License-Identifier: GPL-2.0
/*
 * SCSI hosts and commands.
 */

#include <scsi/scsi_cmnd.h>
#include <scsi/scsi_device.h>
#include <scsi/scsi_host.h>

struct scsi_target *rust_helper_iser_scsi_target(struct scsi_device *sdev)
{
	return scsi_target(sdev);
}
