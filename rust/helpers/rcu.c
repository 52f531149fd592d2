// SPDX-License-Identifier: GPL-2.0
/*
 * RCU.
 */

#include <linux/rcupdate.h>

void rust_helper_iser_synchronize_rcu_tasks(void)
{
	synchronize_rcu_tasks();
}
