// SPDX-License-Identifier: GPL-2.0
/*
 * Work items and workqueues. Names are printed as given, never as a format.
 */

#include <linux/jiffies.h>
#include <linux/workqueue.h>

struct workqueue_struct *rust_helper_iser_alloc_workqueue(const char *name,
							  unsigned int flags,
							  int max_active)
{
	return alloc_workqueue("%s", flags, max_active, name);
}

struct workqueue_struct *rust_helper_iser_alloc_ordered_workqueue(
		const char *name, unsigned int flags)
{
	return alloc_ordered_workqueue("%s", flags, name);
}

void rust_helper_iser_flush_workqueue(struct workqueue_struct *wq)
{
	flush_workqueue(wq);
}

bool rust_helper_iser_queue_work(struct workqueue_struct *wq,
				 struct work_struct *work)
{
	return queue_work(wq, work);
}

bool rust_helper_iser_queue_delayed_work(struct workqueue_struct *wq,
					 struct delayed_work *work,
					 unsigned long delay)
{
	return queue_delayed_work(wq, work, delay);
}

unsigned long rust_helper_iser_msecs_to_jiffies(unsigned int m)
{
	return msecs_to_jiffies(m);
}
