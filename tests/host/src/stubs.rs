// SPDX-License-Identifier: GPL-2.0

//! What the sizes of the driver name of the crates `rdma` and `iscsi`: structures of numbers, which
//! the code and its table must fill in as they are there, and limits. And what the tags take from the kernel's
//! headers; KUnit runs their table against those.

#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelConfig {
    pub(crate) slots: u32,
    pub(crate) region_pages: u32,
    pub(crate) receives: u32,
    pub(crate) receive_len: usize,
    pub(crate) large_receive_len: usize,
    pub(crate) control_len: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLimits {
    pub(crate) cmds_max: u32,
    pub(crate) scsi_cmds_max: u32,
    pub(crate) sg_tablesize: u32,
    pub(crate) virt_boundary_mask: usize,
}

pub(crate) mod bindings {
    pub(crate) const ISCSI_ITT_MASK: u32 = 0x1fff;
    pub(crate) const ISCSI_OPCODE_MASK: u32 = 0x3f;
    pub(crate) const ISCSI_OP_NOOP_OUT: u32 = 0;
    pub(crate) const ISCSI_OP_REJECT: u32 = 0x3f;
    pub(crate) const ISCSI_REASON_IMM_CMD_REJECT: u32 = 6;

    /// The fields of a header that all PDUs have (RFC 7143, section 11.2.1).
    #[repr(C)]
    pub(crate) struct iscsi_hdr {
        opcode: u8,
        specific: [u8; 3],
        lengths: [u8; 4],
        lun: [u8; 8],
        pub(crate) itt: u32,
    }

    /// Those of a Reject (RFC 7143, section 11.17).
    #[repr(C)]
    pub(crate) struct iscsi_reject {
        opcode: u8,
        flags: u8,
        pub(crate) reason: u8,
    }
}

pub(crate) mod channel {
    pub(crate) const EXTRA_RECEIVES: u32 = crate::recv_account::EXTRA;
}

pub(crate) mod device {
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct DeviceCaps {
        pub(crate) max_qp_wr: u32,
        pub(crate) max_send_sge: u32,
        pub(crate) max_qp_rd_atom: u32,
        pub(crate) max_region_pages: u32,
        pub(crate) max_segment_size: u32,
        pub(crate) fast_registration: bool,
        pub(crate) sg_gaps: bool,
        pub(crate) checks_invalidation: bool,
    }
}

pub(crate) mod qp {
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct QpConfig {
        pub(crate) max_send_wr: u32,
        pub(crate) max_recv_wr: u32,
        pub(crate) max_send_sge: u32,
    }
}

pub(crate) mod send {
    pub(crate) const MAX_SEND_SGE: u32 = 4;
    pub(crate) const MAX_DATA_OUTS: u32 = crate::send_queue::MAX_CHAIN - 2;
}
