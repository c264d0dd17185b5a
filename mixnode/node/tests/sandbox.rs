//! What a process in the node's sandbox can't do any more. Each test runs in a process of its own, because a sandbox
//! can't be left.
#![allow(
    unsafe_code,
    reason = "what a confined process must not do, done by hand"
)]

mod sandbox {
    pub mod probes;
}

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use mixnode::process::sandbox::{Calls, Confinement, Mode, confine, seal};
use sandbox::probes::{self, Outcome, REFUSED};

/// Runs `child` of this program in the folder of a fresh directory.
fn in_a_child(child: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("descriptors")).unwrap();
    std::fs::write(folder.path().join("authorities"), "known").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child, "--ignored", "--nocapture"])
        .env("SANDBOX_FOLDER", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("1 passed"), "{text}{errors}");
}

/// Does `work` with the folder in a process that has one thread; nothing if the test was started otherwise than by
/// [`in_a_child`]. The test harness keeps its main thread beside the test's, hence a fork.
fn alone(work: impl FnOnce(&Path)) {
    let Some(folder) = std::env::var_os("SANDBOX_FOLDER") else {
        return;
    };
    // SAFETY: the harness's main thread, which is not in the new process, waits for this test and holds no lock.
    match unsafe { libc::fork() } {
        0 => {
            let work = std::panic::AssertUnwindSafe(|| work(Path::new(&folder)));
            let failed = std::panic::catch_unwind(work).is_err();
            std::process::exit(i32::from(failed));
        }
        process => {
            let process = rustix::process::Pid::from_raw(process).unwrap();
            let ended =
                rustix::process::waitpid(Some(process), rustix::process::WaitOptions::empty());
            let (_, status) = ended.unwrap().unwrap();
            assert_eq!(status.exit_status(), Some(0), "{status:?}");
        }
    }
}

fn confined(folder: &Path) -> Confinement {
    let done = confine(Mode::On, folder, &folder.join("descriptors")).unwrap();
    assert!(done.no_new_privileges && done.no_capabilities && done.not_dumpable);
    done
}

/// What the folder still allows, and the rest of the file system does not.
fn files_are_the_folders_alone(folder: &Path) {
    use std::io::ErrorKind::PermissionDenied;
    assert_eq!(std::fs::read(folder.join("authorities")).unwrap(), b"known");
    let (new, placed) = (
        folder.join("descriptors/.new"),
        folder.join("descriptors/me"),
    );
    for _ in 0..2 {
        std::fs::write(&new, "descriptor").unwrap();
        std::fs::rename(&new, &placed).unwrap();
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2);
    let kind = |result: std::io::Result<()>| result.map_err(|error| error.kind());
    for (refused, what) in [
        (std::fs::read("/etc/passwd").map(drop), "reading elsewhere"),
        (std::fs::read_dir("/").map(drop), "listing elsewhere"),
        (std::fs::read("/proc/self/maps").map(drop), "reading /proc"),
        (
            std::fs::write(folder.join("authorities"), "forged"),
            "writing what is to be read",
        ),
        (
            std::fs::write(folder.join("more"), ""),
            "making files beside it",
        ),
        (
            std::fs::write(std::env::temp_dir().join("fogmix-escaped"), ""),
            "writing elsewhere",
        ),
    ] {
        assert_eq!(kind(refused), Err(PermissionDenied), "{what}");
    }
}

#[test]
#[ignore = "run by the tests beside it in a process of its own"]
fn child_confined() {
    alone(|folder| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let done = confined(folder);
        if done.landlock == mixnode::process::sandbox::Extent::None {
            println!("SKIPPED the part of Landlock: this kernel has none");
        } else {
            files_are_the_folders_alone(folder);
            assert!(std::net::TcpStream::connect(address).is_err());
            assert!(TcpListener::bind("127.0.0.1:0").is_err());
            assert!(listener.set_nonblocking(true).is_ok());
        }
        // Of all threads started from now on, too, and without any help from seccomp.
        std::thread::spawn(|| {
            for (name, probe) in probes::WITHOUT_CAPABILITIES {
                assert_eq!(probe(), REFUSED, "{name}");
            }
        })
        .join()
        .unwrap();
        assert_eq!(
            rustix::thread::capabilities(None).unwrap(),
            rustix::thread::CapabilitySets {
                effective: rustix::thread::CapabilitySet::empty(),
                permitted: rustix::thread::CapabilitySet::empty(),
                inheritable: rustix::thread::CapabilitySet::empty(),
            }
        );
    });
}

#[test]
fn without_capabilities_and_with_landlock_nothing_is_regained() {
    in_a_child("child_confined");
}

#[test]
#[ignore = "run by the tests beside it in a process of its own"]
fn child_sealed() {
    alone(|folder| {
        let done = confined(folder);
        // A thread from before the filter is under it as well.
        let (go, wait) = std::sync::mpsc::channel();
        let early = std::thread::spawn(move || {
            wait.recv().unwrap();
            for (name, probe) in probes::UNDER_THE_FILTER {
                assert_eq!(probe(), REFUSED, "{name} on another thread");
            }
        });
        let done = seal(Mode::On, Calls::default(), done).unwrap();
        assert!(done.seccomp);
        for (name, probe) in probes::UNDER_THE_FILTER {
            assert_eq!(probe(), REFUSED, "{name}");
        }
        go.send(()).unwrap();
        early.join().unwrap();
        // What a node does all the time still works.
        std::thread::sleep(std::time::Duration::from_millis(1));
        drop(vec![1u8; 64 << 20]);
        assert_eq!(std::fs::read(folder.join("authorities")).unwrap(), b"known");
        assert_eq!(probes::unix_socket(), REFUSED);
    });
}

#[test]
fn under_the_filter_no_system_call_that_makes_rights_is_left() {
    in_a_child("child_sealed");
}

#[test]
#[ignore = "run by the tests beside it in a process of its own"]
fn child_with_a_loader() {
    alone(|folder| {
        let done = confined(folder);
        seal(Mode::On, Calls { loader: true }, done).unwrap();
        // The loader may be reached again, and nobody else.
        assert_eq!(probes::unix_socket(), Outcome::Done);
        for (name, probe) in probes::UNDER_THE_FILTER {
            assert_eq!(probe(), REFUSED, "{name}");
        }
    });
}

#[test]
fn a_node_with_a_loader_may_make_sockets_of_that_kind_alone() {
    in_a_child("child_with_a_loader");
}

#[test]
#[ignore = "run by the tests beside it in a process of its own"]
fn child_with_threads() {
    alone(|folder| {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        let refused = confine(Mode::Require, folder, &folder.join("descriptors")).unwrap_err();
        assert!(refused.reason.contains("2 threads"), "{refused}");
        drop(stop);
        assert!(other.join().unwrap().is_err());
    });
}

#[test]
fn a_process_with_threads_is_not_called_confined() {
    in_a_child("child_with_threads");
}
