// SPDX-License-Identifier: GPL-2.0
/*
 * Verbs: protection domains, completion queues, queue pairs, memory regions.
 */

#include <rdma/ib_verbs.h>

struct ib_pd *rust_helper_iser_ib_alloc_pd(struct ib_device *device,
					   unsigned int flags)
{
	return ib_alloc_pd(device, flags);
}

void rust_helper_iser_ib_dealloc_pd(struct ib_pd *pd)
{
	ib_dealloc_pd(pd);
}

int rust_helper_iser_ib_post_send(struct ib_qp *qp, const struct ib_send_wr *wr,
				  const struct ib_send_wr **bad_wr)
{
	return ib_post_send(qp, wr, bad_wr);
}

int rust_helper_iser_ib_post_recv(struct ib_qp *qp, const struct ib_recv_wr *wr,
				  const struct ib_recv_wr **bad_wr)
{
	return ib_post_recv(qp, wr, bad_wr);
}

int rust_helper_iser_ib_dereg_mr(struct ib_mr *mr)
{
	return ib_dereg_mr(mr);
}

void rust_helper_iser_ib_update_fast_reg_key(struct ib_mr *mr, u8 newkey)
{
	ib_update_fast_reg_key(mr, newkey);
}

u32 rust_helper_iser_ib_inc_rkey(u32 rkey)
{
	return ib_inc_rkey(rkey);
}
