// SPDX-License-Identifier: GPL-2.0
/*
 * Locks that libiscsi and its transports share, and allocation scopes.
 */

#include <linux/bottom_half.h>
#include <linux/lockdep.h>
#include <linux/sched/mm.h>
#include <linux/spinlock.h>

void rust_helper_iser_spin_lock_bh(spinlock_t *lock)
{
	spin_lock_bh(lock);
}

void rust_helper_iser_spin_unlock_bh(spinlock_t *lock)
{
	spin_unlock_bh(lock);
}

unsigned long rust_helper_iser_spin_lock_irqsave(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

void rust_helper_iser_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}

unsigned int rust_helper_iser_memalloc_noio_save(void)
{
	return memalloc_noio_save();
}

void rust_helper_iser_memalloc_noio_restore(unsigned int flags)
{
	memalloc_noio_restore(flags);
}
