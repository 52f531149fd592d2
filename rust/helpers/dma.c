// SPDX-License-Identifier: GPL-2.0
/*
 * Streaming DMA mapping through the RDMA device, which may have a virtual one.
 */

#include <rdma/ib_verbs.h>

u64 rust_helper_iser_ib_dma_map_single(struct ib_device *dev, void *cpu_addr,
				       size_t size, enum dma_data_direction dir)
{
	return ib_dma_map_single(dev, cpu_addr, size, dir);
}

void rust_helper_iser_ib_dma_unmap_single(struct ib_device *dev, u64 addr,
					  size_t size,
					  enum dma_data_direction dir)
{
	ib_dma_unmap_single(dev, addr, size, dir);
}

int rust_helper_iser_ib_dma_mapping_error(struct ib_device *dev, u64 addr)
{
	return ib_dma_mapping_error(dev, addr);
}

int rust_helper_iser_ib_dma_map_sg(struct ib_device *dev,
				   struct scatterlist *sg, int nents,
				   enum dma_data_direction dir)
{
	return ib_dma_map_sg(dev, sg, nents, dir);
}

void rust_helper_iser_ib_dma_unmap_sg(struct ib_device *dev,
				      struct scatterlist *sg, int nents,
				      enum dma_data_direction dir)
{
	ib_dma_unmap_sg(dev, sg, nents, dir);
}

void rust_helper_iser_ib_dma_sync_single_for_cpu(struct ib_device *dev,
						 u64 addr, size_t size,
						 enum dma_data_direction dir)
{
	ib_dma_sync_single_for_cpu(dev, addr, size, dir);
}

void rust_helper_iser_ib_dma_sync_single_for_device(struct ib_device *dev,
						    u64 addr, size_t size,
						    enum dma_data_direction dir)
{
	ib_dma_sync_single_for_device(dev, addr, size, dir);
}

unsigned int rust_helper_iser_ib_dma_max_seg_size(struct ib_device *dev)
{
	return ib_dma_max_seg_size(dev);
}

unsigned int rust_helper_iser_sg_dma_len(struct scatterlist *sg)
{
	return sg_dma_len(sg);
}

struct scatterlist *rust_helper_iser_sg_next(struct scatterlist *sg)
{
	return sg_next(sg);
}
