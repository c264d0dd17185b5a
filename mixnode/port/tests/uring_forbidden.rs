//! Where a seccomp filter forbids io_uring, the node says so: "auto" becomes plain with the reason, "uring" refuses.

use std::collections::BTreeMap;
use std::process::Command;

use port::available::uring_available;
use port::{PortKind, Resolved, UringUnavailable};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Run in a child of the test below, because a filter can't be taken off again.
#[test]
#[ignore = "run by the tests beside it in a process of its own"]
fn child_with_a_filter() {
    let Ok(error) = std::env::var("FILTER_ERROR") else {
        return;
    };
    let error: u32 = error.parse().unwrap();
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_io_uring_setup, vec![])]),
        SeccompAction::Allow,
        SeccompAction::Errno(error),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
    let reason = uring_available().unwrap_err();
    assert_eq!(PortKind::Uring.resolve(), Err(reason));
    assert_eq!(PortKind::Auto.resolve(), Ok(Resolved::Plain(Some(reason))));
    assert_eq!(PortKind::Plain.resolve(), Ok(Resolved::Plain(None)));
    println!("reason: {reason:?}: {reason}");
}

fn reason_under(error: i32) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_with_a_filter", "--ignored", "--nocapture"])
        .env("FILTER_ERROR", error.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn a_filter_that_answers_eperm_is_named_as_the_reason() {
    let text = reason_under(libc::EPERM);
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    if sysctl.trim().parse() == Ok(0) {
        assert!(
            text.contains("reason: Seccomp: io_uring is forbidden by a seccomp filter"),
            "{text}"
        );
    }
}

#[test]
fn a_filter_that_answers_enosys_looks_like_a_kernel_without_io_uring() {
    assert!(reason_under(libc::ENOSYS).contains("reason: Missing:"));
}

#[test]
fn reasons_are_sentences_with_a_remedy() {
    for reason in [
        UringUnavailable::Seccomp,
        UringUnavailable::Sysctl(2),
        UringUnavailable::Missing,
        UringUnavailable::TooOld("a set-up flag"),
        UringUnavailable::Memory,
        UringUnavailable::Descriptors,
    ] {
        assert!(
            reason.to_string().contains(':') || reason.to_string().contains("needed"),
            "{reason}"
        );
    }
    assert_eq!("auto".parse(), Ok(PortKind::Auto));
    assert_eq!("uring".parse(), Ok(PortKind::Uring));
    assert_eq!("plain".parse(), Ok(PortKind::Plain));
    assert!("xdp".parse::<PortKind>().is_err());
}
