//! The machine that a report is about, and what else it did meanwhile.

use serde::{Deserialize, Serialize};
use sphinx::lanes::Lanes;

/// What the figures were measured on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    /// The CPU's name as the kernel gives it.
    pub(crate) cpu: String,
    /// Cores of the machine.
    pub(crate) cores: usize,
    /// Threads that were held to one core each.
    pub(crate) threads_pinned: usize,
    /// The kernel's release.
    pub(crate) kernel: String,
    pub(crate) memory_bytes: Option<u64>,
    /// Whether the CPU says that a hypervisor is beneath it.
    #[serde(rename = "virtual")]
    pub(crate) is_virtual: bool,
    /// How the first core's frequency is chosen; virtual machines often don't say.
    pub(crate) governor: Option<String>,
    /// The backend of the wide arithmetic.
    pub(crate) lanes: String,
    /// The interface that carried the packets, where one of hardware did.
    pub(crate) nic: Option<String>,
    /// Threads that ran or waited to, a minute's mean, before the first round.
    pub(crate) load_before: Option<f64>,
    /// The same after the last.
    pub(crate) load_after: Option<f64>,
    /// Share of the cores' time that the hypervisor gave to others meanwhile.
    pub(crate) steal_percent: Option<f64>,
}

/// How busy the machine is at a moment.
pub(crate) struct Moment {
    load: Option<f64>,
    /// Ticks that the hypervisor took, and all.
    ticks: Option<(u64, u64)>,
}

impl Moment {
    /// Now.
    pub(crate) fn now() -> Moment {
        Moment {
            load: first_number(&read("/proc/loadavg")),
            ticks: ticks(&read("/proc/stat")),
        }
    }
}

impl Machine {
    /// This one, between two moments.
    pub(crate) fn between(
        before: &Moment,
        after: &Moment,
        threads_pinned: usize,
        lanes: Lanes,
    ) -> Machine {
        let info = read("/proc/cpuinfo");
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Machine {
            cpu: cpu(&info),
            // Not what this thread may use: it may be held to one of them by now.
            cores: cores_in(&info),
            threads_pinned,
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            memory_bytes: memory_bytes(),
            is_virtual: field(&info, "flags")
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
            governor: Some(governor.trim().to_owned()).filter(|name| !name.is_empty()),
            lanes: lanes.name().to_owned(),
            nic: None,
            load_before: before.load,
            load_after: after.load,
            steal_percent: steal_percent(before.ticks, after.ticks),
        }
    }

    /// What of the machine makes figures doubtful.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if let Some(steal) = self.steal_percent.filter(|steal| *steal > 1.0) {
            doubts.push(format!(
                "the hypervisor gave {steal:.1} % of the cores' time to others"
            ));
        }
        if let Some(load) = self.load_before.filter(|load| *load > 0.5) {
            doubts.push(format!(
                "other work ran on this machine before the first round: a load of {load:.1} on {} cores",
                self.cores
            ));
        }
        doubts
    }
}

/// Cores that this thread may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn cores_in(info: &str) -> usize {
    let cores = info.lines().filter(|line| line.starts_with("processor"));
    cores.count()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The first line's value of `name : value`.
fn field(info: &str, name: &str) -> Option<String> {
    let line = info.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn cpu(info: &str) -> String {
    let name = field(info, "model name").unwrap_or_else(|| "unknown".into());
    // Virtual machines often name no model; the numbers tell the microarchitecture.
    match (field(info, "cpu family"), field(info, "model\t")) {
        (Some(family), Some(model)) => format!("{name}, family {family}, model {model}"),
        _ => name,
    }
}

/// The machine's memory.
pub(crate) fn memory_bytes() -> Option<u64> {
    memory_in(&read("/proc/meminfo"))
}

fn memory_in(info: &str) -> Option<u64> {
    let value = field(info, "MemTotal")?;
    let kilobytes: u64 = value.strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Stolen and all ticks of all cores: proc_stat(5), whose first line has user, nice, system, idle, iowait, irq, softirq,
/// steal. What guests of this machine used is in user already.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map(|number| number.parse().ok())
        .collect::<Option<_>>()?;
    Some((*ticks.get(7)?, ticks.iter().sum()))
}

fn steal_percent(before: Option<(u64, u64)>, after: Option<(u64, u64)>) -> Option<f64> {
    let (before, after) = (before?, after?);
    let all = after.1.saturating_sub(before.1);
    let stolen = after.0.saturating_sub(before.0);
    let percent = 100.0 * stolen as f64 / all.max(1) as f64;
    Some((percent * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_what_the_kernel_writes() {
        let stat = "cpu  100 0 50 800 0 0 0 50 7 0\ncpu0 1 2 3\n";
        assert_eq!(ticks(stat), Some((50, 1_000)));
        assert_eq!(ticks("cpu  1 2 3"), None);
        assert_eq!(
            steal_percent(Some((50, 1_000)), Some((75, 2_000))),
            Some(2.5)
        );
        assert_eq!(memory_in("MemTotal:  2048 kB\n"), Some(2_097_152));
        let info =
            "cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: Some CPU\nflags\t\t: fpu hypervisor\n";
        assert_eq!(cpu(info), "Some CPU, family 25, model 17");
        let two = "processor\t: 0\nmodel name\t: X\n\nprocessor\t: 1\nmodel name\t: X\n";
        assert_eq!(cores_in(two), 2);
        assert_eq!(first_number("1.50 2.00 3.00 1/2 3"), Some(1.5));
    }

    #[test]
    fn a_machine_that_others_used_is_doubted() {
        let moment = |load, stolen, all| Moment {
            load: Some(load),
            ticks: Some((stolen, all)),
        };
        let quiet = Machine::between(
            &moment(0.1, 0, 0),
            &moment(1.0, 1, 1_000),
            1,
            Lanes::Portable,
        );
        assert_eq!(quiet.doubts(), Vec::<String>::new());
        let busy = Machine::between(
            &moment(3.0, 0, 0),
            &moment(1.0, 20, 1_000),
            1,
            Lanes::Portable,
        );
        assert_eq!(busy.doubts().len(), 2);
    }
}
