//! Hosts that are played: a sound one of which nothing is said, and those with one fault each, which is named with what to do.

use control::api::shapes::{Clock, InForce, State};

use super::kernel::tests::{SOUND, host};
use super::*;

/// What mixctld says in epoch 7 of a node that works by the document of `epoch`, if there is one.
fn status(not_ready: &[&str], epoch: Option<u32>) -> Status {
    Status {
        version: "0.1.0".to_owned(),
        unix_ms: 0,
        state: match not_ready.is_empty() {
            true => State::Ready,
            false => State::Waiting,
        },
        not_ready: not_ready.iter().map(|why| (*why).to_owned()).collect(),
        network: String::new(),
        epoch: 7,
        ends_unix_ms: 0,
        document: epoch.map(|epoch| InForce {
            epoch,
            digest: String::new(),
            age_ms: 0,
            nodes: 12,
        }),
        node: None,
        counters: None,
        rates: None,
        anonymity: None,
        warnings: Vec::new(),
        clock: None,
    }
}

/// The same of a host whose clock is so far ahead of the authorities'.
fn off(ahead_ms: i64) -> Status {
    Status {
        clock: Some(Clock::of((ahead_ms, ahead_ms), 37_500)),
        ..status(&[], Some(7))
    }
}

const SWAPS: &str = "Filename Type Size Used Priority\n";

/// A host that a node fares well on, whose kernel's files are in the folder.
fn sound() -> (tempfile::TempDir, Facts) {
    let (folder, host) = host(SOUND);
    let facts = Facts {
        release: "6.12.48+deb13-amd64".to_owned(),
        uring: Ok(()),
        memlock: Some(64 << 20),
        swaps: SWAPS.to_owned(),
        disk: (PathBuf::from("/var/lib/fogmix"), Ok(64 << 20)),
        unit: Some("LoadState=loaded\nFileDescriptorStoreMax=32\n".to_owned()),
        port: ("127.1.1.1:7000".to_owned(), Ok(())),
        time: Some("NTPSynchronized=yes\n".to_owned()),
        host,
        status: Some(Ok(status(&[], Some(7)))),
    };
    (folder, facts)
}

/// What is wrong there.
fn faults(facts: Facts) -> Vec<Finding> {
    let findings = facts.examine();
    assert!(findings.len() >= 15, "{findings:?}");
    let bad = |found: &Finding| found.verdict != Verdict::Ok;
    findings.into_iter().filter(bad).collect()
}

#[test]
fn of_a_sound_host_nothing_is_said_whether_a_node_runs_there_or_not() {
    let (_folder, facts) = sound();
    assert_eq!(faults(facts).len(), 0);
    let (_folder, mut facts) = sound();
    // A limit that is none, and more of everything.
    (facts.memlock, facts.release) = (None, "7.0.1".to_owned());
    facts.disk.1 = Ok(u64::MAX);
    facts.unit = Some("FileDescriptorStoreMax=8\nLoadState=loaded\n".to_owned());
    assert_eq!(faults(facts).len(), 0);
    let (_folder, mut facts) = sound();
    facts.release = "6.1.0-57-cloud-amd64".to_owned();
    assert_eq!(faults(facts).len(), 0);
    let (_folder, mut facts) = sound();
    facts.status = None;
    let findings = facts.examine();
    assert!(findings.iter().all(|found| found.verdict == Verdict::Ok));
    assert!(!findings.iter().any(|found| found.what == "mixctld"));
}

/// What makes a host unsound: how, what names it, and words of the remedy.
type Fault = (fn(&mut Facts, &Path), &'static str, &'static str);

const FAULTS: &[Fault] = &[
    (
        |facts, _| facts.release = "5.15.0-100-generic".to_owned(),
        "kernel",
        "6.1 or newer",
    ),
    (
        |facts, _| facts.release = String::new(),
        "kernel",
        "6.1 or newer",
    ),
    (
        |facts, _| facts.uring = Err("io_uring is refused (EPERM)".to_owned()),
        "io_uring",
        "plain port",
    ),
    (
        |facts, _| facts.memlock = Some(8 << 20),
        "memlock",
        "LimitMEMLOCK=infinity",
    ),
    (
        |facts, _| facts.swaps = format!("{SWAPS}/dev/sda2 partition 8388604 0 -2\n"),
        "swap",
        "/dev/sda2: keys are locked",
    ),
    (
        |facts, _| facts.disk.1 = Ok((64 << 20) - 1),
        "disk",
        "make room",
    ),
    (
        |facts, _| facts.disk.1 = Err(io::Error::from_raw_os_error(5)),
        "disk",
        "dmesg",
    ),
    (
        |facts, _| facts.unit = Some("LoadState=loaded\nFileDescriptorStoreMax=0\n".to_owned()),
        "fd store",
        "FileDescriptorStoreMax=32",
    ),
    (
        // The vault and its tables want one more.
        |facts, _| facts.unit = Some("LoadState=loaded\nFileDescriptorStoreMax=4\n".to_owned()),
        "fd store",
        "FileDescriptorStoreMax=32",
    ),
    (
        |facts, _| {
            facts.unit = Some("LoadState=not-found\nFileDescriptorStoreMax=0\n".to_owned());
        },
        "fd store",
        "run mixctld as a unit",
    ),
    (
        |facts, _| facts.unit = None,
        "fd store",
        "run mixctld as a unit",
    ),
    (
        |facts, _| facts.port.1 = Err(io::ErrorKind::AddrInUse.into()),
        "UDP port",
        "ss -ulpn",
    ),
    (
        |facts, _| facts.time = Some("NTPSynchronized=no\n".to_owned()),
        "clock",
        "timedatectl set-ntp true",
    ),
    (
        |facts, _| facts.time = None,
        "clock",
        "see to it that one does",
    ),
    (
        |_, root| fs::remove_file(root.join("sys/kernel/btf/vmlinux")).unwrap(),
        "BTF",
        "CONFIG_DEBUG_INFO_BTF",
    ),
    (
        |_, root| fs::write(root.join("proc/mounts"), "proc /proc proc rw 0 0\n").unwrap(),
        "BPF folder",
        "mount -t bpf",
    ),
    (
        |_, root| {
            let pages = root.join("sys/kernel/mm/transparent_hugepage/enabled");
            fs::write(pages, "always madvise [never]\n").unwrap();
        },
        "huge pages",
        "echo madvise",
    ),
    (
        |_, root| fs::write(root.join("sys/class/net/eth0/mtu"), "1279\n").unwrap(),
        "link",
        "mtu 1500",
    ),
    (
        |facts, _| facts.status = Some(Ok(status(&["no loop packet has come back yet"], Some(7)))),
        "node",
        "no loop packet has come back yet",
    ),
    (
        |facts, _| facts.status = Some(Ok(status(&[], Some(6)))),
        "document",
        "of epoch 6 while it is epoch 7",
    ),
    (
        |facts, _| facts.status = Some(Ok(status(&[], None))),
        "document",
        "none is in force: mixctld's log says",
    ),
    (
        |facts, _| facts.status = Some(Ok(off(-3_600_000))),
        "time",
        "3600 s off: this host's clock is behind the authorities', and epochs go by it: set it (chronyc makestep",
    ),
    (
        |facts, _| facts.status = Some(Ok(off(2_000))),
        "time",
        "theirs are off: tell the authorities' operators",
    ),
    (
        |facts, _| facts.status = Some(Err(Failure::new(77, "this user may not use it"))),
        "mixctld",
        "this user may not use it",
    ),
];

#[test]
fn of_each_unsound_host_its_fault_is_named_and_nothing_else_in_a_sentence_with_the_remedy() {
    let mut named = std::collections::BTreeSet::new();
    for (makes, what, remedy) in FAULTS {
        let (folder, mut facts) = sound();
        makes(&mut facts, folder.path());
        let found = faults(facts);
        let [fault] = &found[..] else {
            panic!("{what}, {remedy}: {found:?}");
        };
        assert_eq!(fault.what, *what, "{fault:?}");
        assert!(fault.detail.contains(remedy), "{fault:?}");
        let is_sentence = !fault.detail.contains('\n') && fault.detail.len() < 300;
        assert!(is_sentence, "{fault:?}");
        named.insert(*what);
    }
    // All that is looked at can be unsound but what is only told: the lanes and the cores.
    let (_folder, facts) = sound();
    let looked_at = facts.examine().into_iter().map(|found| found.what);
    let looked_at = looked_at.filter(|what| !["lanes", "cores"].contains(what));
    let never: Vec<&str> = looked_at.filter(|what| !named.contains(what)).collect();
    assert_eq!(never, [""; 0]);
    assert!(named.len() >= 12, "{named:?}");
}

#[test]
fn what_can_not_run_a_node_is_a_problem_and_what_runs_it_worse_a_warning() {
    for (makes, what, remedy) in FAULTS {
        let (folder, mut facts) = sound();
        makes(&mut facts, folder.path());
        let is_problem = ["make room", "mtu 1500"].contains(remedy);
        let expected = match is_problem {
            true => Verdict::Problem,
            false => Verdict::Warning,
        };
        assert_eq!(faults(facts)[0].verdict, expected, "{what}");
    }
}

#[test]
fn a_clock_stops_a_node_only_if_no_service_keeps_it_and_more_than_half_of_the_authorities_say_so() {
    let (hour, no) = (3_600_000, Some("NTPSynchronized=no\n"));
    for (time, medians, expected) in [
        (no, (hour, hour), Verdict::Problem),
        (None, (-hour, -hour), Verdict::Problem),
        (no, (hour, 0), Verdict::Warning),
        (no, (18_000, 18_000), Verdict::Warning),
        (
            Some("NTPSynchronized=yes\n"),
            (hour, hour),
            Verdict::Warning,
        ),
        (no, (1_999, 1_999), Verdict::Ok),
    ] {
        let (_folder, mut facts) = sound();
        facts.time = time.map(str::to_owned);
        let clock = Some(Clock::of(medians, 37_500));
        facts.status = Some(Ok(Status {
            clock,
            ..status(&[], Some(7))
        }));
        let found = facts.examine();
        let found = found.iter().find(|found| found.what == "time").unwrap();
        assert_eq!(found.verdict, expected, "{time:?} {medians:?}");
    }
}

#[test]
fn this_host_is_looked_at_and_a_socket_that_can_not_be_looked_for_is_no_sign_that_nobody_listens() {
    let hidden = examine(0, Path::new("/etc/passwd/http.sock"));
    assert!(hidden.iter().any(|found| found.what == "mixctld"));
    let absent = examine(0, Path::new("/nowhere/http.sock"));
    assert!(!absent.iter().any(|found| found.what == "mixctld"));
    let (there, free) = free_at(&std::env::temp_dir().join("not/there"));
    assert!(there.is_dir() && free.is_ok());
}
