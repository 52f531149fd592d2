// SPDX-License-Identifier: GPL-2.0

//! A connection of libiscsi: what the driver bound to it, and the driver's reference on it.

use crate::bhs::Bhs;
use crate::bindings;
use crate::error::{ConnError, PduError};
use crate::failing::Failing;
use crate::lock::{Back, Frwd};
use crate::task::TaskData;
use crate::{Pdu, Transport};
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ptr::{self, addr_of_mut, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use kernel::ffi::c_int;
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::{delay::fsleep, Delta};

/// What `bind` of the driver returned.
pub(crate) struct Bound<T: Transport> {
    pub(crate) conn: Arc<T::Conn>,
    tx: UnsafeCell<T::Tx>,
}

impl<T: Transport> Bound<T> {
    pub(crate) fn new(conn: Arc<T::Conn>, tx: T::Tx) -> Self {
        Self {
            conn,
            tx: UnsafeCell::new(tx),
        }
    }
}

/// Our private data behind each `struct iscsi_conn`. It begins as zeroes.
///
/// # Invariants
///
/// - `generation` and `bound` are written with both session locks held.
/// - `bound` is NULL or owns a [`Bound`], whose `tx` is only accessed under `frwd_lock`.
/// - After `destroy_conn`, `bound` is NULL and no [`ConnRef`] has this `generation`.
#[repr(C)]
pub(crate) struct ConnData<T: Transport> {
    /// First, so that it is found without knowing the transport.
    failing: Failing,
    bound: *mut Bound<T>,
    /// Changes when a connection is bound and when it is stopped.
    generation: u32,
    /// Whether a request of user space waits for the end of its system call.
    requested: AtomicBool,
    /// How often the target broke a rule, on all connections that this was bound to.
    violations: AtomicU32,
}

impl<T: Transport> ConnData<T> {
    /// The size to ask of libiscsi.
    pub(crate) const SIZE: c_int = {
        assert!(align_of::<Self>() <= align_of::<bindings::iscsi_conn>());
        size_of::<Self>() as c_int
    };

    /// Returns our private data of a connection.
    ///
    /// # Safety
    ///
    /// `conn` must be a valid connection that was set up for this transport.
    #[inline]
    unsafe fn of(conn: NonNull<bindings::iscsi_conn>) -> *mut Self {
        // SAFETY: By the safety requirements; libiscsi set the pointer to what is behind the
        // connection, and never changes it.
        unsafe { (*conn.as_ptr()).dd_data.cast() }
    }

    /// Returns how often the target of a connection broke a rule.
    ///
    /// # Safety
    ///
    /// As for `of`.
    pub(crate) unsafe fn violations(conn: NonNull<bindings::iscsi_conn>) -> u32 {
        // SAFETY: The data is valid by the safety requirements; the counter is atomic.
        unsafe { (*Self::of(conn)).violations.load(Relaxed) }
    }

    /// Completes the private data of a new connection.
    ///
    /// # Safety
    ///
    /// As for `of`; nobody else may know the connection yet.
    pub(crate) unsafe fn init(conn: NonNull<bindings::iscsi_conn>) {
        // SAFETY: By the safety requirements.
        unsafe { Failing::init(addr_of_mut!((*Self::of(conn)).failing), conn) };
    }

    /// Waits until the workqueue does not know the connection any more. Sleeps.
    ///
    /// # Safety
    ///
    /// As for `of`; the connection was retired for the last time.
    pub(crate) unsafe fn flush(conn: NonNull<bindings::iscsi_conn>) {
        // SAFETY: By the safety requirements; `init` was called when the connection was made.
        unsafe { Failing::flush(addr_of_mut!((*Self::of(conn)).failing)) };
    }

    /// Returns what is bound to a connection, for the callbacks under `frwd_lock`.
    ///
    /// # Safety
    ///
    /// As for `of`; `frwd_lock` of the session must be held during `'a`, and nothing else that
    /// came from here may be alive.
    #[inline]
    pub(crate) unsafe fn locked<'a>(
        conn: NonNull<bindings::iscsi_conn>,
    ) -> Option<(&'a T::Conn, &'a mut T::Tx)> {
        // SAFETY: The data is valid, and the lock excludes every writer of `bound`.
        let bound = unsafe { (*Self::of(conn)).bound };
        // SAFETY: By the type invariant the pointer is NULL or valid as long as the lock is held.
        let bound = unsafe { bound.as_ref()? };
        // SAFETY: `tx` is only accessed under the lock, and only through this function, of which
        // nothing else is alive by the requirements.
        Some((&bound.conn, unsafe { &mut *bound.tx.get() }))
    }

    /// Returns what is bound to a connection, to be used without the lock.
    ///
    /// # Safety
    ///
    /// As for `of`; no session lock may be held.
    pub(crate) unsafe fn get(conn: NonNull<bindings::iscsi_conn>) -> Option<Arc<T::Conn>> {
        // SAFETY: A valid connection has a session.
        let _frwd = unsafe { Frwd::lock(session_of(conn)) };
        // SAFETY: The data is valid, and the lock excludes every writer of `bound`; by the type
        // invariant the pointer is NULL or valid.
        unsafe { (*Self::of(conn)).bound.as_ref() }.map(|bound| bound.conn.clone())
    }

    /// Returns a reference on a connection that something is bound to.
    ///
    /// # Safety
    ///
    /// As for `of`; no session lock may be held, and the module must be referenced.
    pub(crate) unsafe fn current(conn: NonNull<bindings::iscsi_conn>) -> Option<ConnRef<T>> {
        // SAFETY: A valid connection has a session.
        let _frwd = unsafe { Frwd::lock(session_of(conn)) };
        // SAFETY: The data is valid, and the lock excludes every writer.
        let (bound, generation) = unsafe {
            let data = Self::of(conn);
            (!(*data).bound.is_null(), (*data).generation)
        };
        // SAFETY: By the safety requirements.
        bound.then(|| unsafe { ConnRef::new(conn, generation) })
    }

    /// Begins a new generation: references of earlier ones have no effect from now on.
    ///
    /// Returns its number, or an error if a connection is bound.
    ///
    /// # Safety
    ///
    /// As for `of`; no session lock may be held.
    pub(crate) unsafe fn begin(conn: NonNull<bindings::iscsi_conn>) -> Result<u32> {
        // SAFETY: A valid connection has a session.
        let frwd = unsafe { Frwd::lock(session_of(conn)) };
        let _back = frwd.back();
        // SAFETY: Both locks are held.
        unsafe {
            let data = Self::of(conn);
            if !(*data).bound.is_null() {
                return Err(EBUSY);
            }
            (*data).generation = (*data).generation.wrapping_add(1);
            Ok((*data).generation)
        }
    }

    /// Publishes what the driver bound. [`ConnData::begin`] said that there is nothing yet.
    ///
    /// # Safety
    ///
    /// As for `of`; no session lock may be held. Nothing may be bound.
    pub(crate) unsafe fn publish(conn: NonNull<bindings::iscsi_conn>, bound: KBox<Bound<T>>) {
        // SAFETY: A valid connection has a session.
        let frwd = unsafe { Frwd::lock(session_of(conn)) };
        let _back = frwd.back();
        // INVARIANT: Both locks are held, and the pointer owns what it points to.
        // SAFETY: Both locks are held.
        unsafe { (*Self::of(conn)).bound = KBox::into_raw(bound) };
    }

    /// Ends the generation and returns what was bound, to be dropped without a lock.
    ///
    /// On return no [`ConnRef`] has an effect any more. Sleeps.
    ///
    /// # Safety
    ///
    /// As for `of`; no session lock may be held.
    pub(crate) unsafe fn retire(conn: NonNull<bindings::iscsi_conn>) -> Option<KBox<Bound<T>>> {
        // SAFETY: The data of a valid connection.
        let data = unsafe { Self::of(conn) };
        // SAFETY: A valid connection has a session.
        let session = unsafe { session_of(conn) };

        let bound = {
            // SAFETY: The session is valid.
            let frwd = unsafe { Frwd::lock(session) };
            let _back = frwd.back();
            // INVARIANT: Both locks are held; ownership moves to the caller.
            // SAFETY: Both locks are held.
            unsafe {
                (*data).generation = (*data).generation.wrapping_add(1);
                ptr::replace(addr_of_mut!((*data).bound), ptr::null_mut())
            }
        };

        loop {
            // SAFETY: The session is valid.
            let frwd = unsafe { Frwd::lock(session) };
            // SAFETY: The lock is held.
            let pins = unsafe { (*data).failing.pins };
            drop(frwd);
            if pins == 0 {
                break;
            }
            fsleep(Delta::from_millis(1));
        }

        if bound.is_null() {
            None
        } else {
            // SAFETY: By the type invariant it came from `publish`, and ownership was just taken.
            Some(unsafe { KBox::from_raw(bound) })
        }
    }
}

/// Returns the session of a connection.
///
/// # Safety
///
/// `conn` must be a valid connection.
#[inline]
pub(crate) unsafe fn session_of(
    conn: NonNull<bindings::iscsi_conn>,
) -> NonNull<bindings::iscsi_session> {
    // SAFETY: A connection points to its session from setup to release.
    unsafe { NonNull::new_unchecked((*conn.as_ptr()).session) }
}

/// The driver's reference on the iSCSI connection that it was bound to.
///
/// It works from [`Transport::bind`] until [`Transport::stop`] has returned; afterwards all
/// methods have no effect, even if the connection is bound anew meanwhile: a late event of a
/// dead connection does not reach its successor.
///
/// Dropping the last reference may sleep. It has to be dropped before the [`Registration`] is,
/// and keeps the module from being unloaded until then.
///
/// [`Registration`]: crate::Registration
///
/// # Invariants
///
/// Owns a reference on the class connection of `conn`, which keeps the memory of connection,
/// session and host, and one on the module that owns the transport.
pub struct ConnRef<T: Transport> {
    conn: NonNull<bindings::iscsi_conn>,
    generation: u32,
    _transport: PhantomData<fn() -> T>,
}

// SAFETY: References are counted atomically, and every method takes the locks it needs.
unsafe impl<T: Transport> Send for ConnRef<T> {}

// SAFETY: As above.
unsafe impl<T: Transport> Sync for ConnRef<T> {}

impl<T: Transport> ConnRef<T> {
    /// Takes a reference for a generation.
    ///
    /// # Safety
    ///
    /// `conn` must be a valid connection that was set up for the transport `T`, and the module
    /// that owns the transport must not be unloading.
    pub(crate) unsafe fn new(conn: NonNull<bindings::iscsi_conn>, generation: u32) -> Self {
        // SAFETY: Connection and module are valid by the safety requirements.
        unsafe {
            let cls_conn = (*conn.as_ptr()).cls_conn;
            bindings::__module_get((*(*cls_conn).transport).owner);
            bindings::iscsi_get_conn(cls_conn);
        }
        // INVARIANT: Both references were just taken.
        Self {
            conn,
            generation,
            _transport: PhantomData,
        }
    }

    #[inline]
    fn session(&self) -> NonNull<bindings::iscsi_session> {
        // SAFETY: The connection is valid by the type invariant.
        unsafe { session_of(self.conn) }
    }

    /// Returns whether this reference is of the current generation.
    ///
    /// # Safety
    ///
    /// One of the two session locks must be held.
    #[inline]
    unsafe fn is_current(&self) -> bool {
        // SAFETY: The data is valid by the type invariant, and a lock is held.
        unsafe { (*ConnData::<T>::of(self.conn)).generation == self.generation }
    }

    /// Hands a received PDU to libiscsi. Softirq, no lock held.
    ///
    /// `incarnation` is that of the request which the PDU [`ends`](Pdu::ends), if it ends one.
    ///
    /// # Errors
    ///
    /// A reason to fail the connection.
    pub fn complete(&self, pdu: Pdu<'_>, incarnation: Option<u32>) -> Result<(), PduError> {
        // User space may answer a login or text response at once, on another CPU, while
        // libiscsi has not let go of the task that both requests share; it would be
        // told that a login is in progress, and give up. Nothing is sent while we hold
        // this.
        let negotiates = pdu.bhs.is_negotiation_response();
        // SAFETY: The session is valid by the type invariant.
        let _frwd = negotiates.then(|| unsafe { Frwd::lock(self.session()) });
        self.complete_response(pdu, incarnation)
    }

    /// [`ConnRef::complete`] for what is no Login or Text Response.
    #[inline(always)]
    pub fn complete_response(
        &self,
        pdu: Pdu<'_>,
        incarnation: Option<u32>,
    ) -> Result<(), PduError> {
        // SAFETY: The session is valid by the type invariant.
        let _back = unsafe { Back::lock(self.session()) };
        // SAFETY: `back_lock` is held.
        if !unsafe { self.is_current() } {
            return Err(PduError::Conn(ConnError::CONN_FAILED));
        }
        if let Some(tag) = pdu.ends() {
            // SAFETY: Our session, with its tasks in this generation; the lock is held.
            let is_in = |incarnation| unsafe { TaskData::is_in(self.session(), tag, incarnation) };
            if !incarnation.is_some_and(is_in) {
                return Err(PduError::Late);
            }
        }
        // SAFETY: `back_lock` is held. In this generation the connection is not torn down and
        // the session's tasks are not freed: both happen after `retire`, which takes the lock.
        // libiscsi only reads header and data; the length of the data is at most that of a
        // receive buffer. It lets go of the lock only for what ends no task, to send a NOP-Out,
        // and comes back only to return.
        let ret = unsafe {
            bindings::__iscsi_complete_pdu(
                self.conn.as_ptr(),
                pdu.bhs.as_hdr(),
                pdu.data.as_ptr().cast_mut().cast(),
                pdu.data.len() as c_int,
            )
        };
        if ret == 0 {
            return Ok(());
        }
        Err(PduError::Conn(ConnError::from_code(ret)))
    }

    /// Tells libiscsi that the connection failed. Process or softirq, no lock held.
    ///
    /// libiscsi stops sending, and user space or the kernel begins recovery. More than one call
    /// does no harm.
    pub fn fail(&self, err: ConnError) {
        // SAFETY: The pin keeps the connection from being torn down, so that the transport class
        // may still queue its cleanup; no lock is held.
        self.pinned(|| unsafe { bindings::iscsi_conn_failure(self.conn.as_ptr(), err.code()) });
    }

    /// Has libiscsi send a PDU of user space's; if it cannot, the connection fails. Process
    /// context, no lock held.
    pub(crate) fn send_pdu(&self, bhs: &Bhs, data: &[u8]) {
        self.pinned(|| {
            // SAFETY: The pin keeps the connection from being torn down; libiscsi copies header
            // and data. No lock is held.
            unsafe {
                let cls_conn = (*self.conn.as_ptr()).cls_conn;
                let data_ptr = data.as_ptr().cast_mut().cast();
                let len = data.len() as u32;
                if bindings::iscsi_conn_send_pdu(cls_conn, bhs.as_hdr(), data_ptr, len) != 0 {
                    let err = ConnError::XMIT_FAILED;
                    bindings::iscsi_conn_failure(self.conn.as_ptr(), err.code());
                }
            }
        });
    }

    /// Returns whether there is a request of user space that waits, of whatever generation.
    pub(crate) fn requested(&self) -> &AtomicBool {
        // SAFETY: The data is valid by the type invariant, and atomic.
        unsafe { &(*ConnData::<T>::of(self.conn)).requested }
    }

    /// Calls `f` while the connection is pinned, if it is still of this generation.
    fn pinned(&self, f: impl FnOnce()) {
        let data = {
            // SAFETY: The session is valid by the type invariant.
            let _frwd = unsafe { Frwd::lock(self.session()) };
            // SAFETY: `frwd_lock` is held.
            if !unsafe { self.is_current() } {
                return;
            }
            // SAFETY: The data is valid by the type invariant and the lock held.
            unsafe {
                let data = ConnData::<T>::of(self.conn);
                (*data).failing.pins = (*data).failing.pins.wrapping_add(1);
                data
            }
        };

        f();

        // SAFETY: The session is valid by the type invariant.
        let _frwd = unsafe { Frwd::lock(self.session()) };
        // SAFETY: The data is valid by the type invariant and the lock held.
        unsafe { (*data).failing.pins = (*data).failing.pins.wrapping_sub(1) };
    }

    /// Counts that the target broke a rule. Any context.
    pub fn count_violation(&self) {
        // SAFETY: The data is valid by the type invariant; the counter is atomic.
        unsafe {
            (*ConnData::<T>::of(self.conn))
                .violations
                .fetch_add(1, Relaxed)
        };
    }

    /// Calls `f` under `frwd_lock`, with what the driver bound. Process or softirq, no lock held.
    ///
    /// Returns [`None`] if that is not there: not yet, or no longer.
    #[inline]
    pub fn with_tx<R>(&self, f: impl FnOnce(&T::Conn, &mut T::Tx) -> R) -> Option<R> {
        // SAFETY: The session is valid by the type invariant.
        let _frwd = unsafe { Frwd::lock(self.session()) };
        // SAFETY: `frwd_lock` is held.
        if !unsafe { self.is_current() } {
            return None;
        }
        // SAFETY: The connection is of this transport, `frwd_lock` is held until after `f`, and
        // `f` cannot come here again, as it would wait for the lock.
        let (conn, tx) = unsafe { ConnData::<T>::locked(self.conn)? };
        Some(f(conn, tx))
    }

    /// Returns the number of the session.
    pub fn sid(&self) -> i32 {
        // SAFETY: Session and class session are valid by the type invariant; constant.
        unsafe { (*(*self.session().as_ptr()).cls_session).sid }
    }

    /// Returns the number of the connection within its session.
    pub fn cid(&self) -> u32 {
        // SAFETY: The class connection is valid by the type invariant; constant.
        unsafe { (*(*self.conn.as_ptr()).cls_conn).cid }
    }
}

impl<T: Transport> Clone for ConnRef<T> {
    fn clone(&self) -> Self {
        // SAFETY: Connection and module are valid by the type invariant, and the module is not
        // unloading as long as it is referenced.
        unsafe { Self::new(self.conn, self.generation) }
    }
}

impl<T: Transport> Drop for ConnRef<T> {
    fn drop(&mut self) {
        // SAFETY: Gives up the references that `self` owns by the type invariant. The transport
        // is in memory of the module: the owner is read before.
        unsafe {
            let cls_conn = (*self.conn.as_ptr()).cls_conn;
            let owner = (*(*cls_conn).transport).owner;
            bindings::iscsi_put_conn(cls_conn);
            bindings::module_put(owner);
        }
    }
}

/// Displayed as the connection is named in sysfs and in the messages of the transport class.
impl<T: Transport> fmt::Display for ConnRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection{}:{}", self.sid(), self.cid())
    }
}
