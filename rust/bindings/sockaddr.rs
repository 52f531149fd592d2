// SPDX-License-Identifier: GPL-2.0

//! Socket addresses of IPv4 and IPv6, as an owned and checked copy.
//!
//! The address of a portal comes from user space through the iSCSI transport class and goes to
//! the RDMA connection manager; this type carries it between the two.

use core::net;
use core::ptr;
use kernel::bindings::{
    __kernel_sockaddr_storage, in6_addr, in6_addr__bindgen_ty_1, in_addr, sockaddr, sockaddr_in,
    sockaddr_in6, AF_INET, AF_INET6,
};
use kernel::fmt;
use kernel::prelude::*;

/// The address of an endpoint: IPv4 or IPv6, and a port.
///
/// It is displayed as `10.0.0.1:3260`, `[2001:db8::1]:3260` or `[fe80::1%2]:3260`.
///
/// # Invariants
///
/// The family field of the C structure inside is the one of the variant.
#[derive(Clone, Copy)]
pub struct SocketAddr(Inner);

#[derive(Clone, Copy)]
enum Inner {
    V4(sockaddr_in),
    V6(sockaddr_in6),
}

impl SocketAddr {
    /// Copies a C socket address.
    ///
    /// Returns [`EAFNOSUPPORT`] unless it is one of IPv4 or IPv6.
    ///
    /// # Safety
    ///
    /// `addr` must be valid for reads of its family field and, where that says `AF_INET` or
    /// `AF_INET6`, of a whole `struct sockaddr_in` or `struct sockaddr_in6`. It need not be
    /// aligned.
    pub unsafe fn from_raw(addr: *const sockaddr) -> Result<Self> {
        // SAFETY: By the safety requirements.
        let family = unsafe { ptr::read_unaligned(ptr::addr_of!((*addr).sa_family)) };

        // INVARIANT: The family was just read, and the copy holds it too.
        match u32::from(family) {
            AF_INET => {
                // SAFETY: By the safety requirements, for this family.
                let mut copy = unsafe { ptr::read_unaligned(addr.cast::<sockaddr_in>()) };
                copy.sin_family = family;
                Ok(Self(Inner::V4(copy)))
            }
            AF_INET6 => {
                // SAFETY: By the safety requirements, for this family.
                let mut copy = unsafe { ptr::read_unaligned(addr.cast::<sockaddr_in6>()) };
                copy.sin6_family = family;
                Ok(Self(Inner::V6(copy)))
            }
            _ => Err(EAFNOSUPPORT),
        }
    }

    /// Makes an IPv4 address.
    pub fn v4(addr: [u8; 4], port: u16) -> Self {
        // INVARIANT: The family is that of the variant.
        Self(Inner::V4(sockaddr_in {
            sin_family: AF_INET as u16,
            sin_port: port.to_be(),
            sin_addr: in_addr {
                s_addr: u32::from_ne_bytes(addr),
            },
            ..Default::default()
        }))
    }

    /// Makes an IPv6 address; `scope` is the number of an interface, or 0.
    pub fn v6(addr: [u8; 16], port: u16, scope: u32) -> Self {
        // INVARIANT: The family is that of the variant.
        Self(Inner::V6(sockaddr_in6 {
            sin6_family: AF_INET6 as u16,
            sin6_port: port.to_be(),
            sin6_flowinfo: 0,
            sin6_addr: in6_addr {
                in6_u: in6_addr__bindgen_ty_1 { u6_addr8: addr },
            },
            sin6_scope_id: scope,
        }))
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        match &self.0 {
            Inner::V4(addr) => u16::from_be(addr.sin_port),
            Inner::V6(addr) => u16::from_be(addr.sin6_port),
        }
    }

    /// Returns whether this is an IPv6 address.
    pub fn is_ipv6(&self) -> bool {
        matches!(self.0, Inner::V6(_))
    }

    /// Returns the address as C functions take it; valid as long as `self` is borrowed.
    ///
    /// The family field says how much may be read.
    pub fn as_ptr(&self) -> *const sockaddr {
        match &self.0 {
            Inner::V4(addr) => ptr::from_ref(addr).cast(),
            Inner::V6(addr) => ptr::from_ref(addr).cast(),
        }
    }

    /// Returns a copy in a `struct sockaddr_storage`.
    pub fn to_storage(&self) -> __kernel_sockaddr_storage {
        let mut storage = __kernel_sockaddr_storage::default();
        let size = match &self.0 {
            Inner::V4(_) => size_of::<sockaddr_in>(),
            Inner::V6(_) => size_of::<sockaddr_in6>(),
        };

        // SAFETY: Both variants are smaller than the storage, see the assertion below, and
        // `as_ptr` points to a whole variant.
        unsafe {
            ptr::copy_nonoverlapping(
                self.as_ptr().cast::<u8>(),
                ptr::addr_of_mut!(storage).cast::<u8>(),
                size,
            )
        };
        storage
    }

    fn to_core(self) -> net::SocketAddr {
        let port = self.port();
        match self.0 {
            Inner::V4(addr) => {
                let octets = addr.sin_addr.s_addr.to_ne_bytes();
                net::SocketAddr::V4(net::SocketAddrV4::new(octets.into(), port))
            }
            Inner::V6(addr) => {
                // SAFETY: Every variant of this union is 16 bytes of plain data.
                let octets = unsafe { addr.sin6_addr.in6_u.u6_addr8 };
                net::SocketAddr::V6(net::SocketAddrV6::new(
                    octets.into(),
                    port,
                    u32::from_be(addr.sin6_flowinfo),
                    addr.sin6_scope_id,
                ))
            }
        }
    }
}

const _: () = assert!(size_of::<sockaddr_in>() == 16);
const _: () = assert!(size_of::<sockaddr_in6>() == 28);
const _: () = assert!(size_of::<sockaddr_in6>() <= size_of::<__kernel_sockaddr_storage>());

impl PartialEq for SocketAddr {
    fn eq(&self, other: &Self) -> bool {
        self.to_core() == other.to_core()
    }
}

impl Eq for SocketAddr {}

impl fmt::Display for SocketAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(&self.to_core(), f)
    }
}

impl fmt::Debug for SocketAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(&self.to_core(), f)
    }
}
