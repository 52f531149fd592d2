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

struct ib_cq *rust_helper_iser_ib_alloc_cq(struct ib_device *dev, void *private,
					   int nr_cqe, int comp_vector,
					   enum ib_poll_context poll_ctx)
{
	return ib_alloc_cq(dev, private, nr_cqe, comp_vector, poll_ctx);
}

struct ib_cq *rust_helper_iser_ib_alloc_cq_any(struct ib_device *dev,
					       void *private, int nr_cqe,
					       enum ib_poll_context poll_ctx)
{
	return ib_alloc_cq_any(dev, private, nr_cqe, poll_ctx);
}

struct ib_qp *rust_helper_iser_ib_create_qp(struct ib_pd *pd,
					    struct ib_qp_init_attr *init_attr)
{
	return ib_create_qp(pd, init_attr);
}

int rust_helper_iser_ib_destroy_qp(struct ib_qp *qp)
{
	return ib_destroy_qp(qp);
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

bool rust_helper_iser_rdma_protocol_iwarp(const struct ib_device *device,
					  u32 port_num)
{
	return rdma_protocol_iwarp(device, port_num);
}

bool rust_helper_iser_rdma_protocol_roce(const struct ib_device *device,
					 u32 port_num)
{
	return rdma_protocol_roce(device, port_num);
}

bool rust_helper_iser_rdma_protocol_ib(const struct ib_device *device,
				       u32 port_num)
{
	return rdma_protocol_ib(device, port_num);
}

bool rust_helper_iser_rdma_cap_read_inv(struct ib_device *device, u32 port_num)
{
	return rdma_cap_read_inv(device, port_num);
}
