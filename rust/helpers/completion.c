// SPDX-License-Identifier: GPL-2.0
/*
 * Completions; the rest of their interface is exported functions.
 */

#include <linux/completion.h>

void rust_helper_iser_init_completion(struct completion *x)
{
	init_completion(x);
}

void rust_helper_iser_reinit_completion(struct completion *x)
{
	reinit_completion(x);
}
