// SPDX-License-Identifier: GPL-2.0

//! Module parameters that sysfs shows, and that refuse bad values.
//!
//! The `module!` macro has neither permissions nor validators. A parameter is
//! declared with [`module_param!`]; its value is checked when it is set, at load
//! time as well as through sysfs, and a value that is refused leaves a line in the
//! log.

mod number;

use core::{fmt::Write, marker::PhantomData};
use iser_bindings as bindings;
use kernel::{
    error::from_result,
    ffi::{c_char, c_int, c_void},
    prelude::*,
    str::kstrtobool,
    sync::atomic::{Atomic, Relaxed},
};

/// What `pr_*` of this crate print before their text.
const __LOG_PREFIX: &[u8] = b"ib_iser_rs\0";

/// A kind of parameter.
pub trait Kind: Sync + 'static {
    /// Flags of `struct kernel_param_ops`.
    const FLAGS: u32;

    /// Sets the value, of the parameter `name`. Process context.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the value is refused; the log says why.
    fn set(&self, name: &CStr, text: Option<&CStr>) -> Result;

    /// Writes the value.
    fn show(&self, to: &mut dyn Write) -> core::fmt::Result;
}

/// A number that is at least `min`.
pub struct Uint {
    value: Atomic<u32>,
    min: u32,
}

impl Uint {
    /// A parameter with a default.
    pub const fn new(default: u32, min: u32) -> Self {
        Self {
            value: Atomic::new(default),
            min,
        }
    }

    /// The value.
    pub fn get(&self) -> u32 {
        self.value.load(Relaxed)
    }
}

impl Kind for Uint {
    const FLAGS: u32 = 0;

    fn set(&self, name: &CStr, text: Option<&CStr>) -> Result {
        let min = self.min;
        let text = as_str(text);
        let value = number::parse(text, min);
        let Some(value) = value else {
            pr_err!("{name}={text} is invalid, allowed is a number from {min}\n");
            return Err(EINVAL);
        };
        self.value.store(value, Relaxed);
        Ok(())
    }

    fn show(&self, to: &mut dyn Write) -> core::fmt::Result {
        write!(to, "{}", self.get())
    }
}

/// A signed number.
pub struct Int {
    value: Atomic<i32>,
}

impl Int {
    /// A parameter with a default.
    pub const fn new(default: i32) -> Self {
        Self {
            value: Atomic::new(default),
        }
    }

    /// The value.
    pub fn get(&self) -> i32 {
        self.value.load(Relaxed)
    }
}

impl Kind for Int {
    const FLAGS: u32 = 0;

    fn set(&self, name: &CStr, text: Option<&CStr>) -> Result {
        let text = as_str(text);
        let value = number::parse(text, i32::MIN);
        let Some(value) = value else {
            pr_err!("{name}={text} is invalid, allowed is a number\n");
            return Err(EINVAL);
        };
        self.value.store(value, Relaxed);
        Ok(())
    }

    fn show(&self, to: &mut dyn Write) -> core::fmt::Result {
        write!(to, "{}", self.get())
    }
}

/// A switch that has only one position yet.
pub struct Fixed {
    value: bool,
    reason: &'static str,
}

impl Fixed {
    /// A switch that is `value`, and why the other position is refused.
    pub const fn new(value: bool, reason: &'static str) -> Self {
        Self { value, reason }
    }
}

impl Kind for Fixed {
    // The name alone means yes.
    const FLAGS: u32 = bindings::KERNEL_PARAM_OPS_FL_NOARG;

    fn set(&self, name: &CStr, text: Option<&CStr>) -> Result {
        let value = match text {
            None => true,
            Some(value) => kstrtobool(value).inspect_err(|_| {
                let text = as_str(Some(value));
                pr_err!("{name}={text} is invalid, allowed is Y or N\n");
            })?,
        };
        if value != self.value {
            let (yes_no, reason) = (if value { "Y" } else { "N" }, self.reason);
            pr_err!("{name}={yes_no} is refused: {reason}\n");
            return Err(EINVAL);
        }
        Ok(())
    }

    fn show(&self, to: &mut dyn Write) -> core::fmt::Result {
        to.write_str(if self.value { "Y" } else { "N" })
    }
}

/// A value without the line end that `echo` adds; nothing, if it is no text.
fn as_str(text: Option<&CStr>) -> &str {
    let text = text.and_then(|t| t.to_str().ok()).unwrap_or("");
    text.strip_suffix('\n').unwrap_or(text)
}

/// An entry of the module's parameter table. Made by [`module_param!`].
#[repr(transparent)]
pub struct Declaration(bindings::kernel_param);

// SAFETY: The kernel only reads the entry, and serialises the calls of its
// operations; values are `Sync`.
unsafe impl Sync for Declaration {}

impl Declaration {
    /// The entry of a parameter. `perm` is its mode in sysfs.
    pub const fn new<K: Kind>(name: &'static CStr, param: &'static K, perm: u16) -> Self {
        Self(bindings::kernel_param {
            name: kernel::str::as_char_ptr_in_const_context(name),
            // Only the address is taken: the object is the module's own.
            mod_: (&raw const bindings::__this_module).cast_mut(),
            ops: &Ops::<K>::OPS,
            perm,
            level: -1,
            flags: 0,
            __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 {
                arg: core::ptr::from_ref(param).cast_mut().cast::<c_void>(),
            },
        })
    }
}

/// The operations of a kind of parameter.
struct Ops<K>(PhantomData<K>);

impl<K: Kind> Ops<K> {
    const OPS: bindings::kernel_param_ops = bindings::kernel_param_ops {
        flags: K::FLAGS,
        set: Some(set::<K>),
        get: Some(get::<K>),
        free: None,
    };
}

/// The parameter behind an entry.
///
/// # Safety
///
/// `entry` must be the entry of a parameter of kind `K`.
unsafe fn param<K: Kind>(entry: *const bindings::kernel_param) -> (&'static CStr, &'static K) {
    // SAFETY: By the contract; `Declaration::new` took both from statics.
    unsafe {
        (
            CStr::from_char_ptr((*entry).name),
            &*(*entry).__bindgen_anon_1.arg.cast_const().cast::<K>(),
        )
    }
}

/// Sets a parameter.
///
/// # Safety
///
/// Called by the kernel when the module is loaded or its file in sysfs written,
/// with the parameter lock held, in process context; `val` is NULL or a string.
unsafe extern "C" fn set<K: Kind>(
    val: *const c_char,
    entry: *const bindings::kernel_param,
) -> c_int {
    // SAFETY: By the contract.
    let (name, param) = unsafe { param::<K>(entry) };
    let text = if val.is_null() {
        None
    } else {
        // SAFETY: By the contract.
        Some(unsafe { CStr::from_char_ptr(val) })
    };
    from_result(|| param.set(name, text).map(|()| 0))
}

/// Shows a parameter.
///
/// # Safety
///
/// Called by the kernel when the parameter's file in sysfs is read, with the
/// parameter lock held, in process context; `buf` is a page.
unsafe extern "C" fn get<K: Kind>(buf: *mut c_char, entry: *const bindings::kernel_param) -> c_int {
    // SAFETY: By the contract.
    let (_, param) = unsafe { param::<K>(entry) };
    // SAFETY: By the contract; a value takes no more than this.
    let buf = unsafe { core::slice::from_raw_parts_mut(buf.cast::<u8>(), 32) };
    let mut to = Line { buf, len: 0 };
    if param.show(&mut to).is_err() || to.write_char('\n').is_err() {
        return EINVAL.to_errno();
    }
    to.len as c_int
}

/// A short text in a buffer.
struct Line<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl Write for Line<'_> {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        let end = self.len + s.len();
        let to = self.buf.get_mut(self.len..end).ok_or(core::fmt::Error)?;
        to.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// The bytes of a text, for a static of the module's information section.
#[doc(hidden)]
pub const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let text = text.as_bytes();
    let mut bytes = [0; N];
    let mut i = 0;
    while i < N && i < text.len() {
        bytes[i] = text[i];
        i += 1;
    }
    bytes
}

/// Puts a text into the module's information section.
#[doc(hidden)]
#[macro_export]
macro_rules! modinfo {
    ($text:expr) => {
        const _: () = {
            const TEXT: &str = $text;
            #[link_section = ".modinfo"]
            #[used]
            static INFO: [u8; TEXT.len()] = $crate::bytes(TEXT);
        };
    };
}

/// Declares a module parameter: a static of one of the kinds of this crate.
///
/// ```ignore
/// module_param! {
///     /// Largest number of things.
///     static MAX_THINGS: Uint = Uint::new(512, 1);
///     name: "max_things",
///     type: "uint",
///     mode: 0o444,
///     description: "Largest number of things",
/// }
/// ```
#[macro_export]
macro_rules! module_param {
    (
        $(#[$meta:meta])*
        static $ident:ident: $kind:ty = $init:expr;
        name: $name:literal,
        type: $type:literal,
        mode: $mode:literal,
        description: $description:literal $(,)?
    ) => {
        $(#[$meta])*
        pub(crate) static $ident: $kind = $init;

        const _: () = {
            #[link_section = "__param"]
            #[used]
            static DECLARATION: $crate::Declaration =
                $crate::Declaration::new(kernel::c_str!($name), &$ident, $mode);
        };
        $crate::modinfo!(concat!("parm=", $name, ":", $description, "\0"));
        $crate::modinfo!(concat!("parmtype=", $name, ":", $type, "\0"));
    };
}

#[cfg(CONFIG_KUNIT = "y")]
#[cfg_attr(CONFIG_KUNIT = "y", kernel::macros::kunit_tests(modparam))]
mod tests {
    use super::*;

    /// What sysfs shows of a value.
    fn shown(param: &impl Kind) -> [u8; 12] {
        let mut text = [0; 12];
        let mut to = Line {
            buf: &mut text,
            len: 0,
        };
        let _ = param.show(&mut to);
        text
    }

    fn padded(text: &str) -> [u8; 12] {
        bytes(text)
    }

    #[test]
    fn numbers() {
        let param = Uint::new(512, 1);
        // What is written; what the value is then.
        let table = [
            (Some(c"7"), true, "7"),
            (Some(c"8\n"), true, "8"),
            (Some(c"0"), false, "8"),
            (Some(c"-1"), false, "8"),
            (Some(c"1 2"), false, "8"),
            (Some(c"\xff"), false, "8"),
            (Some(c""), false, "8"),
            (None, false, "8"),
            (Some(c"4294967295"), true, "4294967295"),
            (Some(c"4294967296"), false, "4294967295"),
        ];
        assert_eq!(shown(&param), padded("512"));
        for (text, accepted, value) in table {
            assert_eq!(param.set(c"test", text).is_ok(), accepted);
            assert_eq!(shown(&param), padded(value));
        }
    }

    #[test]
    fn signed_numbers() {
        let param = Int::new(0);
        for (text, accepted, value) in [
            (c"-5\n", true, "-5"),
            (c"2147483648", false, "-5"),
            (c"3", true, "3"),
        ] {
            assert_eq!(param.set(c"test", Some(text)).is_ok(), accepted);
            assert_eq!(shown(&param), padded(value));
        }
    }

    #[test]
    fn switches_of_one_position() {
        for position in [true, false] {
            let param = Fixed::new(position, "this is a test");
            // The name alone means yes.
            let table = [
                (None, Some(true)),
                (Some(c"Y"), Some(true)),
                (Some(c"1\n"), Some(true)),
                (Some(c"N"), Some(false)),
                (Some(c"0"), Some(false)),
                (Some(c"off"), Some(false)),
                (Some(c"maybe"), None),
                (Some(c""), None),
            ];
            for (text, meaning) in table {
                let accepted = param.set(c"test", text).is_ok();
                assert_eq!(accepted, meaning == Some(position));
                assert_eq!(shown(&param), padded(if position { "Y" } else { "N" }));
            }
        }
    }
}
