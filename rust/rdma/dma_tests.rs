// SPDX-License-Identifier: GPL-2.0

//! Mappings through a device of the driver core, so that the kernel's checks of them
//! (`CONFIG_DMA_API_DEBUG`) see each: the software RDMA devices have none.
//!
//! What is mapped, synchronised or unmapped in a wrong way is a report of these checks, and what
//! is left mapped is found by `tests/debug/kunit.py`.

#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(rdma_dma))]
mod tests {
    use crate::{
        bindings,
        dma::{self, Buffer, Direction, Pool, SgMapping},
        fake::{Device, List},
        recv::Receives,
    };
    use kernel::prelude::*;

    const BOTH: [Direction; 2] = [Direction::ToDevice, Direction::FromDevice];

    /// How often the kernel has warned meanwhile, of which the log says nothing.
    fn warnings<R>(of: impl FnOnce() -> R) -> (R, i32) {
        // SAFETY: A test is running, and no other has begun this.
        unsafe {
            let test = bindings::kunit_get_current_test();
            let suppressed = bindings::kunit_start_suppress_warning(test);
            let result = of();
            let count = bindings::kunit_suppressed_warning_count(suppressed);
            bindings::kunit_end_suppress_warning(test, suppressed);
            (result, count)
        }
    }

    #[test]
    fn parts_of_a_pool() -> Result {
        let mut device = Device::with_dma()?;
        let dev = device.raw();
        // How many parts; bytes of each.
        let table = [
            (1, 76),
            (31, 128),
            (32, 128),
            (33, 100),
            (3, 4096),
            (2, 5000),
        ];
        for (count, size) in table {
            for dir in BOTH {
                // SAFETY: The pool is dropped before the device.
                let pool = unsafe { Pool::new(dev, count, size, dir) }?;
                for i in 0..count {
                    let (mem, addr) = pool.part(i).ok_or(EINVAL)?;
                    assert_eq!(mem.as_ptr() as usize % 64, 0);
                    // SAFETY: The part is mapped, and of so many bytes.
                    unsafe {
                        dma::sync_for_cpu(dev, addr, size, dir);
                        mem.write_bytes(i as u8, size);
                        dma::sync_for_device(dev, addr, size, dir);
                    }
                }
                // No part shares a byte with another.
                for i in 0..count {
                    let (mem, _) = pool.part(i).ok_or(EINVAL)?;
                    // SAFETY: Written above.
                    let bytes = unsafe { core::slice::from_raw_parts(mem.as_ptr(), size) };
                    assert!(bytes.iter().all(|byte| *byte == i as u8));
                }
                for behind in [count, count + 1, usize::MAX] {
                    assert!(pool.part(behind).is_none());
                }
            }
        }
        for size in [0, usize::MAX, usize::MAX - 63] {
            // SAFETY: As above.
            let pool = unsafe { Pool::new(dev, 1, size, BOTH[0]) };
            assert!(pool.is_err());
        }
        Ok(())
    }

    #[test]
    fn parts_of_a_buffer() -> Result {
        let mut device = Device::with_dma()?;
        // SAFETY: The buffer is dropped before the device.
        let buffer = unsafe { Buffer::new(device.raw(), 1000, Direction::FromDevice) }?;
        let (base, address) = buffer.part(0, 1000).ok_or(EINVAL)?;
        // Offset and length; whether there is such a part.
        let table = [
            (0, 0, true),
            (1, 999, true),
            (999, 1, true),
            (1000, 0, true),
            (0, 1001, false),
            (1, 1000, false),
            (1000, 1, false),
            (1001, 0, false),
            (usize::MAX, 1, false),
            (1, usize::MAX, false),
        ];
        for (offset, len, there) in table {
            let part = buffer.part(offset, len);
            assert_eq!(part.is_some(), there);
            if let Some((mem, addr)) = part {
                assert_eq!(mem.as_ptr() as usize - base.as_ptr() as usize, offset);
                assert_eq!(addr - address, offset as u64);
            }
        }
        Ok(())
    }

    #[test]
    fn lists_are_mapped_again_and_again() -> Result {
        let mut device = Device::with_dma()?;
        let list = List::new(&[512, 1024, 4096])?;
        // A list that stayed mapped for the device to write would overlap with the next mapping.
        for dir in [BOTH, BOTH].as_flattened() {
            // SAFETY: The mapping is dropped before list and device.
            let mapping = unsafe { SgMapping::new(device.raw(), &list, *dir) }.ok_or(EINVAL)?;
            assert_eq!(mapping.raw().1, 3);
        }
        let empty = List::new(&[])?;
        // SAFETY: As above.
        assert!(unsafe { SgMapping::new(device.raw(), &empty, Direction::ToDevice) }.is_none());
        Ok(())
    }

    #[test]
    fn entries_of_a_send() -> Result {
        let list = List::new(&[512, 1024, 4096])?;
        // Bytes and room for entries; entries that it takes.
        let table = [
            (1, 3, Some(1)),
            (512, 1, Some(1)),
            (513, 1, None),
            (513, 3, Some(2)),
            (1536, 2, Some(2)),
            (1537, 2, None),
            (1537, 3, Some(3)),
            (5632, 4, Some(3)),
            (5633, 4, None),
            (1, 0, None),
        ];
        let devices = [
            Device::with_dma()?,
            #[cfg(CONFIG_INFINIBAND_VIRT_DMA)]
            Device::virt()?,
        ];
        for mut device in devices {
            // SAFETY: The mapping is dropped before list and device.
            let mapping = unsafe { SgMapping::new(device.raw(), &list, Direction::ToDevice) };
            let mapping = mapping.ok_or(EINVAL)?;
            for (len, room, used) in table {
                let mut sges = [bindings::ib_sge::default(); 4];
                assert_eq!(mapping.fill_sges(&mut sges[..room], len, 7), used);
                let first = mapping.first_sge(len, 7);
                assert_eq!(first.is_some(), len <= 512);
                if let Some(used) = used {
                    let total: u32 = sges[..used].iter().map(|sge| sge.length).sum();
                    assert_eq!(total, len);
                    assert!(sges[..used]
                        .iter()
                        .all(|sge| sge.lkey == 7 && sge.addr != 0));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn out_of_addresses() -> Result {
        let mut device = Device::with_dma()?;
        let list = List::new(&[512, 1024])?;
        for last in [0xfff, u64::MAX] {
            device.reaches(last);
            let (dev, fails) = (device.raw(), last < u64::MAX);
            // The kernel warns of what does not map. To unmap that would be a second warning.
            for dir in BOTH {
                // SAFETY: What is made is dropped at once.
                let (made, count) = warnings(|| unsafe { Buffer::new(dev, 128, dir) }.err());
                assert_eq!(made, fails.then_some(ENOMEM));
                assert_eq!(count, i32::from(fails));
                // SAFETY: As above.
                let (made, count) = warnings(|| unsafe { Pool::new(dev, 33, 128, dir) }.err());
                assert_eq!(made, fails.then_some(ENOMEM));
                assert_eq!(count, i32::from(fails));
                // SAFETY: As above.
                let (none, count) =
                    warnings(|| unsafe { SgMapping::new(dev, &list, dir) }.is_none());
                assert_eq!(none, fails);
                assert_eq!(count, i32::from(fails));
            }
        }
        Ok(())
    }

    unsafe extern "C" fn done(_cq: *mut bindings::ib_cq, _wc: *mut bindings::ib_wc) {}

    #[test]
    fn what_was_mapped_before_a_failure_is_unmapped() -> Result {
        let mut device = Device::with_dma()?;
        // Bytes of the large buffers, which are made when those of the ring are mapped.
        for (large, fails) in [(8192, false), (usize::MAX, true)] {
            // SAFETY: The buffers are dropped before the device.
            let made = unsafe { Receives::new(device.raw(), 1, 40, 128, large, done) };
            assert_eq!(made.err(), fails.then_some(ENOMEM));
        }
        Ok(())
    }
}
