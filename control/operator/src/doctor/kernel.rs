//! What the kernel has for the XDP front end, for memory and for time: read below a root, so that a test can play any host.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Finding, Verdict, finding};

/// A datagram with the headers of IPv6: what fits into the smallest link that IPv6 allows.
const PACKET_BYTES: u32 = 1_280;

/// Where the kernel shows itself.
pub(super) struct Host {
    root: PathBuf,
}

impl Host {
    /// This one, or one whose files lie below `root`.
    pub(super) fn at(root: &Path) -> Host {
        Host {
            root: root.to_owned(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The names in a folder, sorted.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    /// All of it.
    pub(super) fn examine(&self) -> Vec<Finding> {
        let mut findings = vec![self.btf(), self.bpf_folder(), self.pages()];
        let links = self.names("sys/class/net");
        // Those of hardware, virtual machines' among it: bridges and tunnels have no device.
        let of_hardware =
            |name: &&String| self.path(&format!("sys/class/net/{name}/device")).exists();
        findings.extend(links.iter().filter(of_hardware).map(|name| self.link(name)));
        findings
    }

    fn btf(&self) -> Finding {
        match self.path("sys/kernel/btf/vmlinux").exists() {
            true => finding("BTF", Verdict::Ok, "the kernel describes its types"),
            false => finding(
                "BTF",
                Verdict::Warning,
                "no /sys/kernel/btf/vmlinux: port = \"xsk\" may not load its program; take a kernel built with \
                 CONFIG_DEBUG_INFO_BTF, as distributions ship it",
            ),
        }
    }

    fn bpf_folder(&self) -> Finding {
        let mounts = self.text("proc/mounts").unwrap_or_default();
        let mut mounted = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let folder = fields.next()?;
            (fields.next() == Some("bpf")).then_some(folder)
        });
        match mounted.next() {
            Some(folder) => finding("BPF folder", Verdict::Ok, folder),
            None => finding(
                "BPF folder",
                Verdict::Warning,
                "no BPF file system: what mixctld attaches can't outlive it; mount -t bpf bpf /sys/fs/bpf",
            ),
        }
    }

    fn pages(&self) -> Finding {
        let said = self.text("sys/kernel/mm/transparent_hugepage/enabled");
        match said.as_deref() {
            Some(said) if said.contains("[always]") || said.contains("[madvise]") => {
                finding("huge pages", Verdict::Ok, said)
            }
            _ => finding(
                "huge pages",
                Verdict::Warning,
                "transparent huge pages are off: each look-up in a large replay table misses the TLB; \
                 echo madvise > /sys/kernel/mm/transparent_hugepage/enabled (fogmix-tune does)",
            ),
        }
    }

    /// Of a network card: what it is driven by, its queues, and whether a packet fits.
    fn link(&self, name: &str) -> Finding {
        let of = |what: &str| self.text(&format!("sys/class/net/{name}/{what}"));
        let driver = fs::read_link(self.path(&format!("sys/class/net/{name}/device/driver")));
        let driver = driver.ok().and_then(|path| {
            let name = path.file_name()?.to_str()?;
            Some(name.to_owned())
        });
        let queues = self.names(&format!("sys/class/net/{name}/queues"));
        let queues = queues.iter().filter(|queue| queue.starts_with("rx-"));
        let mtu = of("mtu").and_then(|mtu| mtu.parse::<u32>().ok());
        let is_up = of("operstate").is_none_or(|state| state != "down");
        let is = format!(
            "{name}: driver {}, {} receive queues, MTU {}",
            driver.as_deref().unwrap_or("unknown"),
            queues.count(),
            mtu.map_or("unknown".to_owned(), |mtu| mtu.to_string())
        );
        if mtu.is_some_and(|mtu| mtu < PACKET_BYTES) && is_up {
            let remedy = format!(
                "{is}: packets of {PACKET_BYTES} bytes do not fit, and none is sent in pieces; ip link set {name} mtu 1500"
            );
            return finding("link", Verdict::Problem, remedy);
        }
        if !is_up {
            return finding("link", Verdict::Ok, format!("{is}; down"));
        }
        finding("link", Verdict::Ok, is)
    }
}

/// What systemd says of the clock; other time services are asked by it too. `None`: it was not to be asked.
pub(super) fn clock(said: Option<&str>) -> Finding {
    let synchronised = said.and_then(|said| {
        let mut lines = said.lines();
        lines.find_map(|line| line.strip_prefix("NTPSynchronized="))
    });
    match synchronised {
        Some("yes") => finding("clock", Verdict::Ok, "kept by a time service"),
        Some(_) => finding(
            "clock",
            Verdict::Warning,
            "no time service keeps it: a clock that is off by a few seconds takes a node out of its epochs; \
             timedatectl set-ntp true, or run chrony",
        ),
        None => finding(
            "clock",
            Verdict::Warning,
            "nobody says whether a time service keeps it (timedatectl is not there): see to it that one does",
        ),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A host whose files are these.
    pub(in crate::doctor) fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::at(folder.path());
        (folder, host)
    }

    pub(in crate::doctor) const SOUND: &[(&str, &str)] = &[
        ("sys/kernel/btf/vmlinux", ""),
        (
            "proc/mounts",
            "proc /proc proc rw 0 0\nbpf /sys/fs/bpf bpf rw,nosuid 0 0\n",
        ),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never\n",
        ),
        ("sys/class/net/eth0/mtu", "1500\n"),
        ("sys/class/net/eth0/operstate", "up\n"),
        ("sys/class/net/eth0/device/vendor", "0x8086\n"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
        ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n"),
        ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0\n"),
        // No card: a tunnel that is too narrow is nobody's business.
        ("sys/class/net/wg0/mtu", "1000\n"),
    ];

    #[test]
    fn a_sound_host_is_clean_and_its_cards_are_named() {
        let (folder, host) = host(SOUND);
        let driver = folder.path().join("sys/class/net/eth0/device/driver");
        symlink("../../../bus/pci/drivers/ixgbe", driver).unwrap();
        let findings = host.examine();
        assert!(findings.iter().all(|found| found.verdict == Verdict::Ok));
        let details: Vec<&str> = findings.iter().map(|found| found.detail.as_str()).collect();
        assert_eq!(
            details,
            [
                "the kernel describes its types",
                "/sys/fs/bpf",
                "always [madvise] never",
                "eth0: driver ixgbe, 2 receive queues, MTU 1500",
            ]
        );
        assert_eq!(clock(Some("NTPSynchronized=yes\n")).verdict, Verdict::Ok);
    }

    #[test]
    fn each_fault_is_found_alone_and_says_what_to_do() {
        for (path, text, what, remedy) in [
            (
                "sys/kernel/btf/vmlinux",
                None,
                "BTF",
                "CONFIG_DEBUG_INFO_BTF",
            ),
            (
                "proc/mounts",
                Some("proc /proc proc rw 0 0\n"),
                "BPF folder",
                "mount -t bpf",
            ),
            ("proc/mounts", None, "BPF folder", "mount -t bpf"),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                Some("always madvise [never]\n"),
                "huge pages",
                "echo madvise",
            ),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                None,
                "huge pages",
                "echo madvise",
            ),
            ("sys/class/net/eth0/mtu", Some("1279\n"), "link", "mtu 1500"),
        ] {
            let (folder, host) = host(SOUND);
            match text {
                Some(text) => fs::write(folder.path().join(path), text).unwrap(),
                None => fs::remove_file(folder.path().join(path)).unwrap(),
            }
            let findings = host.examine();
            let bad: Vec<&Finding> = findings
                .iter()
                .filter(|found| found.verdict != Verdict::Ok)
                .collect();
            assert_eq!(bad.len(), 1, "{path}: {bad:?}");
            assert_eq!(bad[0].what, what);
            assert!(bad[0].detail.contains(remedy), "{}", bad[0].detail);
        }
        for said in [Some("NTPSynchronized=no\n"), Some(""), None] {
            let found = clock(said);
            assert_eq!(found.verdict, Verdict::Warning);
            assert!(found.detail.contains("time service"));
        }
    }

    #[test]
    fn a_card_that_is_down_is_no_problem_whatever_its_mtu() {
        let (folder, host) = host(SOUND);
        fs::write(folder.path().join("sys/class/net/eth0/mtu"), "576\n").unwrap();
        fs::write(folder.path().join("sys/class/net/eth0/operstate"), "down\n").unwrap();
        let findings = host.examine();
        assert!(findings.iter().all(|found| found.verdict == Verdict::Ok));
    }
}
