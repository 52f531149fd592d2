// SPDX-License-Identifier: GPL-2.0

//! Has a target use the key of a command that is done.
//!
//! Preloaded into a target that is a program over libibverbs, such as tgtd, it watches the RDMA Writes
//! and Reads that the target posts. On request it repeats one: the same queue pair, key and
//! address. A request is a line to the Unix socket that `ISER_OLD_KEYS` names, `write 4608` or
//! `read 65536`: the last one of so many bytes. The answer is a line, too:
//!
//! - `refused`: the initiator's device had a remote access error for it;
//! - `accepted`: it was carried out;
//! - `status 5`: it ended otherwise (enum ibv_wc_status), 5 if the connection went first;
//! - else what is wrong: `nothing but [512, 4096]` if these are the lengths of what there is over
//!   connections that are alive.
//!
//! What a Write writes is 0xee, so that it is seen where it should not be.

// All that this does is between a C program and C libraries.
#![allow(unsafe_code)]

use rdma_mummy_sys::{
    ibv_context, ibv_cq, ibv_device, ibv_qp, ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wc,
    ibv_wc_status, ibv_wr_opcode, rdma_t, wr_t,
};
use std::{
    collections::VecDeque,
    ffi::{c_int, c_void, CStr},
    io::{BufRead, BufReader, Write},
    mem::{transmute, zeroed},
    os::unix::net::UnixListener,
    ptr::null_mut,
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

/// The work request of ours; the target's own are addresses.
const OURS: u64 = u64::MAX;
const MARK: u8 = 0xee;
const REMEMBERED: usize = 64;

/// How long a work request may take; on an instrumented kernel times its slowness.
fn completion() -> Duration {
    let slowness = std::env::var("ISER_SLOWNESS").ok();
    let factor = slowness.and_then(|text| text.parse().ok()).unwrap_or(1);
    Duration::from_secs(30) * factor
}

type OpenDevice = unsafe extern "C" fn(*mut ibv_device) -> *mut ibv_context;
type DestroyQp = unsafe extern "C" fn(*mut ibv_qp) -> c_int;
type PostSend = unsafe extern "C" fn(*mut ibv_qp, *mut ibv_send_wr, *mut *mut ibv_send_wr) -> c_int;
type PollCq = unsafe extern "C" fn(*mut ibv_cq, c_int, *mut ibv_wc) -> c_int;

/// The device's own functions.
struct Verbs {
    post_send: PostSend,
    poll_cq: PollCq,
}

static VERBS: OnceLock<Verbs> = OnceLock::new();

/// An access to the initiator's memory that the target has asked for.
struct Access {
    qp: *mut ibv_qp,
    opcode: ibv_wr_opcode::Type,
    remote: rdma_t,
    local: ibv_sge,
}

// SAFETY: A queue pair may be used by any thread; it is forgotten before it is destroyed.
unsafe impl Send for Access {}

struct State {
    /// The last ones, the latest at the end.
    accesses: VecDeque<Access>,
    /// How ours has ended.
    status: Option<u32>,
}

static STATE: Mutex<State> = Mutex::new(State {
    accesses: VecDeque::new(),
    status: None,
});
static ENDED: Condvar = Condvar::new();

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next definition of a function behind ours.
fn next(name: &CStr) -> *mut c_void {
    let bytes = name.to_bytes_with_nul();
    // SAFETY: The name ends with a zero.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, bytes.as_ptr().cast()) };
    assert!(!found.is_null(), "there is no {name:?}");
    found
}

/// Opens a device, and has its functions be ours.
///
/// # Safety
///
/// That of libibverbs' function of this name.
#[no_mangle]
pub unsafe extern "C" fn ibv_open_device(device: *mut ibv_device) -> *mut ibv_context {
    // SAFETY: libibverbs' own function is of that type; the contract is handed on.
    let context = unsafe { transmute::<*mut c_void, OpenDevice>(next(c"ibv_open_device"))(device) };
    // SAFETY: A context is valid until it is closed, and nobody uses a new one yet.
    let Some(opened) = (unsafe { context.as_mut() }) else {
        return context;
    };
    if let (Some(own_post), Some(own_poll)) = (opened.ops.post_send, opened.ops.poll_cq) {
        let verbs = VERBS.get_or_init(|| {
            serve();
            Verbs {
                post_send: own_post,
                poll_cq: own_poll,
            }
        });
        assert!(
            verbs.post_send as usize == own_post as usize,
            "devices of two kinds"
        );
        opened.ops.post_send = Some(post_send);
        opened.ops.poll_cq = Some(poll_cq);
    }
    context
}

/// Destroys a queue pair, which is not used any more.
///
/// # Safety
///
/// That of libibverbs' function of this name.
#[no_mangle]
pub unsafe extern "C" fn ibv_destroy_qp(qp: *mut ibv_qp) -> c_int {
    state().accesses.retain(|access| access.qp != qp);
    // SAFETY: libibverbs' own function is of that type; the contract is handed on.
    unsafe { transmute::<*mut c_void, DestroyQp>(next(c"ibv_destroy_qp"))(qp) }
}

/// Remembers the accesses of a chain, and posts it.
///
/// # Safety
///
/// That of `ibv_post_send`.
unsafe extern "C" fn post_send(
    qp: *mut ibv_qp,
    wr: *mut ibv_send_wr,
    bad: *mut *mut ibv_send_wr,
) -> c_int {
    let mut each = wr;
    // SAFETY: The caller's chain of work requests is valid during the call.
    while let Some(request) = unsafe { each.as_ref() } {
        if matches!(
            request.opcode,
            ibv_wr_opcode::IBV_WR_RDMA_WRITE | ibv_wr_opcode::IBV_WR_RDMA_READ
        ) && request.num_sge > 0
        {
            // SAFETY: There is an entry, and with this opcode the union is `rdma`.
            let (local, remote) = unsafe { (*request.sg_list, request.wr.rdma) };
            let mut state = state();
            if state.accesses.len() == REMEMBERED {
                state.accesses.pop_front();
            }
            state.accesses.push_back(Access {
                qp,
                opcode: request.opcode,
                remote,
                local,
            });
        }
        each = request.next;
    }
    let Some(verbs) = VERBS.get() else {
        return libc::EINVAL;
    };
    // SAFETY: The device's own function, with the caller's arguments.
    unsafe { (verbs.post_send)(qp, wr, bad) }
}

/// Polls, and keeps the completion of ours back.
///
/// # Safety
///
/// That of `ibv_poll_cq`.
unsafe extern "C" fn poll_cq(cq: *mut ibv_cq, count: c_int, wc: *mut ibv_wc) -> c_int {
    let Some(verbs) = VERBS.get() else {
        return -libc::EINVAL;
    };
    loop {
        // SAFETY: The device's own function, with the caller's arguments.
        let found = unsafe { (verbs.poll_cq)(cq, count, wc) };
        let Ok(filled) = usize::try_from(found) else {
            return found;
        };
        let mut kept = 0;
        for at in 0..filled {
            // SAFETY: So many entries of the caller's array were filled in.
            unsafe {
                if (*wc.add(at)).wr_id == OURS {
                    state().status = Some((*wc.add(at)).status);
                    ENDED.notify_all();
                } else {
                    wc.add(kept).copy_from(wc.add(at), 1);
                    kept += 1;
                }
            }
        }
        // Nothing would mean that the queue is empty.
        if kept > 0 || filled == 0 {
            return kept as c_int;
        }
    }
}

/// Answers requests, on a thread of its own.
fn serve() {
    let Some(path) = std::env::var_os("ISER_OLD_KEYS") else {
        return;
    };
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("the socket of ISER_OLD_KEYS");
    std::thread::spawn(move || {
        for mut asked in listener.incoming().flatten() {
            let mut row = String::new();
            let answer = match BufReader::new(&asked).read_line(&mut row) {
                Ok(_) => again(&row),
                Err(error) => error.to_string(),
            };
            let _ = writeln!(asked, "{answer}");
        }
    });
}

/// What a request asks for.
fn parse(row: &str) -> Option<(ibv_wr_opcode::Type, u32)> {
    let (what, length) = row.trim_end().split_once(' ')?;
    let opcode = match what {
        "write" => ibv_wr_opcode::IBV_WR_RDMA_WRITE,
        "read" => ibv_wr_opcode::IBV_WR_RDMA_READ,
        _ => return None,
    };
    Some((opcode, length.parse().ok()?))
}

/// Repeats an access, and says what became of it.
fn again(row: &str) -> String {
    let Some((opcode, length)) = parse(row) else {
        return format!("what is {row:?}?");
    };
    let mut state = state();
    let Some(last) = state
        .accesses
        .iter()
        .rposition(|access| access.opcode == opcode && access.local.length == length)
        .and_then(|at| state.accesses.remove(at))
    else {
        let lengths = state
            .accesses
            .iter()
            .filter(|access| access.opcode == opcode)
            .map(|access| access.local.length);
        return format!("nothing but {:?}", lengths.collect::<Vec<_>>());
    };
    state.status = None;
    if opcode == ibv_wr_opcode::IBV_WR_RDMA_WRITE {
        // SAFETY: The target's buffer for a command that is done; its memory lives as long
        // as its connections, and this one is alive while `state` is locked.
        unsafe { std::ptr::write_bytes(last.local.addr as *mut u8, MARK, length as usize) };
    }
    let mut local = last.local;
    // SAFETY: All bits zero is a work request without flags.
    let mut wr: ibv_send_wr = unsafe { zeroed() };
    wr.wr_id = OURS;
    wr.sg_list = &mut local;
    wr.num_sge = 1;
    wr.opcode = last.opcode;
    wr.send_flags = ibv_send_flags::IBV_SEND_SIGNALED.0;
    wr.wr = wr_t { rdma: last.remote };
    let mut bad = null_mut();
    let code = match VERBS.get() {
        // SAFETY: The queue pair is alive, as above; what is pointed to is read during the call.
        Some(verbs) => unsafe { (verbs.post_send)(last.qp, &mut wr, &mut bad) },
        None => libc::EINVAL,
    };
    if code != 0 {
        return format!("not posted: error {code}");
    }
    let (state, _) = ENDED
        .wait_timeout_while(state, completion(), |state| state.status.is_none())
        .unwrap_or_else(PoisonError::into_inner);
    match state.status {
        Some(ibv_wc_status::IBV_WC_REM_ACCESS_ERR) => "refused".into(),
        Some(ibv_wc_status::IBV_WC_SUCCESS) => "accepted".into(),
        Some(status) => format!("status {status}"),
        None => "no end".into(),
    }
}
