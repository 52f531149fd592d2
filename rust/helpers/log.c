// SPDX-License-Identifier: GPL-2.0
/*
 * The rate limit of messages that a remote machine or a retrying daemon can cause.
 */

#include <linux/jiffies.h>
#include <linux/ratelimit.h>

static DEFINE_RATELIMIT_STATE(iser_messages, 5 * HZ, 20);

int rust_helper_iser_message_allowed(void)
{
	return __ratelimit(&iser_messages);
}
