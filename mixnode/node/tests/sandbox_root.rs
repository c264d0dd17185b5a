//! What takes root to set up: a read-only map descriptor, handed to a node, stays read-only.
#![allow(
    unsafe_code,
    reason = "what a confined process must not do, done by hand"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

use mixnode::process::sandbox::{Calls, Mode, confine, seal};

// `enum bpf_cmd` and flags of linux/bpf.h.
const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_GET_FD_BY_ID: libc::c_long = 14;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const MAP_FREEZE: libc::c_long = 22;
const READ_ONLY: u32 = 1 << 3;

/// `bpf(2)` with the attributes as 32-bit words.
fn bpf(command: libc::c_long, words: &[u32]) -> io::Result<libc::c_int> {
    let mut attributes = [0u32; 32];
    attributes[..words.len()].copy_from_slice(words);
    let bytes = size_of_val(&attributes);
    // SAFETY: the attributes are valid for their size, and the pointers in them for what the command does with them.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), bytes) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as libc::c_int)
    }
}

fn descriptor(number: libc::c_int) -> OwnedFd {
    // SAFETY: fresh from the kernel, nobody else's.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// A pointer as two words, as the machine stores it.
fn halves<T>(of: *const T) -> [u32; 2] {
    let address = of as u64;
    [address as u32, (address >> 32) as u32]
}

fn element(map: &OwnedFd, value: *const u32) -> Vec<u32> {
    static KEY: u32 = 0;
    let map = map.as_raw_fd() as u32;
    let ([key_low, key_high], [low, high]) = (halves(&raw const KEY), halves(value));
    vec![map, 0, key_low, key_high, low, high]
}

/// Array map of one `u32`: its only writable descriptor, and a read-only one.
fn map() -> (OwnedFd, OwnedFd) {
    let writable = descriptor(bpf(MAP_CREATE, &[2, 4, 4, 1]).unwrap());
    let information = [0u32; 64];
    let [low, high] = halves(information.as_ptr());
    let words = [
        writable.as_raw_fd() as u32,
        size_of_val(&information) as u32,
        low,
        high,
    ];
    bpf(OBJ_GET_INFO_BY_FD, &words).unwrap();
    // SAFETY: plain numbers that the kernel wrote; read afresh, for the compiler did not see it write.
    let id = unsafe { information.as_ptr().add(1).read_volatile() };
    let read_only = descriptor(bpf(MAP_GET_FD_BY_ID, &[id, 0, READ_ONLY]).unwrap());
    (writable, read_only)
}

fn refused(result: io::Result<libc::c_int>) -> bool {
    result.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
}

#[test]
#[ignore = "run by the test beside it in a process of its own"]
fn child() {
    let Some(folder) = std::env::var_os("SANDBOX_FOLDER") else {
        return;
    };
    let folder = std::path::PathBuf::from(folder);
    let (writable, read_only) = map();
    let value = 7u32;
    bpf(MAP_UPDATE_ELEM, &element(&writable, &raw const value)).unwrap();
    drop(writable);
    // Of this thread alone: enough for what this thread tries.
    let done = confine(Mode::On, &folder, &folder.join("descriptors")).unwrap();

    // The kernel itself keeps a read-only descriptor from writing.
    let other = 8u32;
    let write = element(&read_only, &raw const other);
    assert!(refused(bpf(MAP_UPDATE_ELEM, &write)));
    assert!(bpf(MAP_FREEZE, &[read_only.as_raw_fd() as u32]).is_err());
    let mut bound = 0;
    for number in 0..64 {
        let one = rustix::thread::CapabilitySet::from_bits_retain(1 << number);
        bound += usize::from(rustix::thread::capability_is_in_bounding_set(one) == Ok(true));
    }
    assert_eq!(bound, 0, "root's bounding set is empty too");

    seal(Mode::On, Calls::default(), done).unwrap();
    let read = 0u32;
    assert!(refused(bpf(MAP_UPDATE_ELEM, &write)));
    assert!(refused(bpf(
        MAP_LOOKUP_ELEM,
        &element(&read_only, &raw const read)
    )));
    assert!(refused(bpf(MAP_GET_FD_BY_ID, &[1])));
}

#[test]
#[ignore = "needs root"]
fn a_read_only_map_descriptor_stays_read_only_and_under_the_filter_means_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("descriptors")).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("SANDBOX_FOLDER", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("1 passed"), "{text}{errors}");
}
