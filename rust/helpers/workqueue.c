// SPDX-License-Identifier: GPL-2.0
/*
 * Work items.
 */

#include <linux/workqueue.h>

void rust_helper_iser_init_work(struct work_struct *work, work_func_t func)
{
	INIT_WORK(work, func);
}

bool rust_helper_iser_schedule_bh_work(struct work_struct *work)
{
	return queue_work(system_bh_wq, work);
}
