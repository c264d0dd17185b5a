//! What the process takes of the machine, read through files that were opened before the node gave up the file system.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Dir, Mode, OFlags};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::exposition::Exposition;

/// `/proc/self/stat` counts in these (USER_HZ and the page on x86-64).
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;

/// The open files.
#[derive(Debug)]
pub struct Usage {
    open: Mutex<(File, Dir)>,
    /// None: without a limit.
    descriptors_max: Option<u64>,
    started_unix_s: f64,
}

impl Usage {
    /// Opens what will be read.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn open() -> io::Result<Usage> {
        let mut stat = File::open("/proc/self/stat")?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder: OwnedFd = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
        let started_s = Fields::read(&mut stat)?.started_ticks as f64 / TICKS_PER_SECOND;
        let boot = clock_gettime(ClockId::Boottime);
        let since_boot_s = boot.tv_sec as f64 + boot.tv_nsec as f64 / 1e9;
        let now_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64());
        Ok(Usage {
            open: Mutex::new((stat, Dir::new(folder)?)),
            descriptors_max: getrlimit(Resource::Nofile).current,
            started_unix_s: now_s - since_boot_s + started_s,
        })
    }

    /// The families that Prometheus' own client libraries have, by the names they have there.
    pub(super) fn render(&self, into: &mut Exposition) {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        into.family(
            "process_cpu_seconds_total",
            super::exposition::Kind::Counter,
            "User and system CPU time.",
        )
        .sample(&[], cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
        into.gauge(
            "process_start_time_seconds",
            self.started_unix_s,
            "When the process started, since the Unix epoch.",
        );
        if let Some(max) = self.descriptors_max {
            into.gauge(
                "process_max_fds",
                max,
                "Most open file descriptors (LimitNOFILE).",
            );
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (stat, folder) = &mut *open;
        folder.rewind();
        // `.`, `..` and the folder's own descriptor are no use of anybody's.
        let descriptors = folder.by_ref().flatten().count().saturating_sub(3);
        into.gauge("process_open_fds", descriptors, "Open file descriptors.");
        if let Ok(fields) = Fields::read(stat) {
            into.gauge(
                "process_virtual_memory_bytes",
                fields.virtual_bytes,
                "Address space.",
            );
            into.gauge(
                "process_resident_memory_bytes",
                fields.resident_pages * PAGE_BYTES,
                "Memory in use.",
            );
            into.gauge("process_threads", fields.threads, "Threads.");
        }
    }
}

/// What is used of `/proc/self/stat`.
struct Fields {
    threads: u64,
    started_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Fields {
    fn read(stat: &mut File) -> io::Result<Fields> {
        let mut text = String::new();
        stat.rewind()?;
        stat.read_to_string(&mut text)?;
        Fields::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(text: &str) -> Option<Fields> {
        // The name, in brackets, may hold anything; field 3 follows it (proc_pid_stat(5)).
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse().ok();
        Some(Fields {
            threads: field(20)?,
            started_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_started_a_short_while_ago_and_has_memory_and_files() {
        let usage = Usage::open().unwrap();
        let now_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        let age_s = now_s - usage.started_unix_s;
        assert!((-1.0..86_400.0).contains(&age_s), "{age_s} s");
        let read = |name: &str| -> f64 {
            let mut exposition = Exposition::default();
            usage.render(&mut exposition);
            let text = exposition.into_text();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(read("process_resident_memory_bytes") > 100_000.0);
        let before = read("process_open_fds");
        let more: Vec<File> = (0..20).map(|_| File::open("/dev/null").unwrap()).collect();
        // Other tests of this process open and close files too.
        assert!(read("process_open_fds") >= before + 10.0);
        drop(more);
    }

    #[test]
    fn a_name_with_brackets_and_blanks_moves_no_field() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 0 0 0 3 4 0 0 20 0 5 0 100 8192 2 18446744073709551615";
        let fields = Fields::parse(text).unwrap();
        assert_eq!((fields.threads, fields.started_ticks), (5, 100));
        assert_eq!((fields.virtual_bytes, fields.resident_pages), (8192, 2));
        assert!(Fields::parse("7 (short) S 1").is_none());
    }
}
