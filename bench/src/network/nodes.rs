//! What the nodes' processes take: CPU time and memory, as the kernel tells.

use directory::Role;

/// Ticks of `/proc` a second: USER_HZ, the same on every machine that Linux has run on for long.
const TICKS: f64 = 100.0;

fn read(process: u32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default()
}

/// User's and kernel's time in `/proc/PID/stat`, seconds. The name before them may have spaces in it.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

/// `VmRSS` in `/proc/PID/status`, bytes.
fn rss_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// `RcvbufErrors` of UDP in `/proc/net/snmp`: datagrams for which a socket had no room.
fn no_room(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let place = lines
        .next()?
        .split_whitespace()
        .position(|name| name == "RcvbufErrors")?;
    lines.next()?.split_whitespace().nth(place)?.parse().ok()
}

/// Datagrams that sockets of this network had no room for, since it started.
pub(super) fn kernel_drops() -> u64 {
    no_room(&std::fs::read_to_string("/proc/net/snmp").unwrap_or_default()).unwrap_or(0)
}

/// CPU time of gateways and of mixes, seconds.
pub(super) fn cpu_by_role(processes: &[(Role, u32)]) -> [f64; 2] {
    let of = |role| {
        let own = processes.iter().filter(|(own, _)| *own == role);
        own.filter_map(|(_, process)| cpu_seconds(&read(*process, "stat")))
            .sum()
    };
    [of(Role::Gateway), of(Role::Mix)]
}

/// Memory of all nodes by epoch: the most that was seen in each, 0 where it could never be read.
#[derive(Debug, Default)]
pub(super) struct Memory {
    epoch: Option<u32>,
    pub(super) peaks: Vec<u64>,
}

impl Memory {
    /// Of all or of none: without one of them it would seem to be less.
    pub(super) fn look(&mut self, processes: &[(Role, u32)], epoch: u32) {
        let of = |(_, process): &(Role, u32)| rss_bytes(&read(*process, "status"));
        let bytes: Option<u64> = processes.iter().map(of).sum();
        self.add(epoch, bytes.unwrap_or(0));
    }

    fn add(&mut self, epoch: u32, bytes: u64) {
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.peaks.push(0);
        }
        if let Some(peak) = self.peaks.last_mut() {
            *peak = bytes.max(*peak);
        }
    }
}

/// How many times the memory of the third and fourth epoch the last two took. Tables fill page by page during an epoch, so
/// whole ones are held against each other; of fewer than seven, the last of them in part, nothing can be said.
///
/// # Errors
/// Why it can't be told.
pub(super) fn growth(peaks: &[u64]) -> Result<f64, &'static str> {
    let whole = &peaks[..peaks.len().saturating_sub(1)];
    if whole.len() < 6 {
        return Err("it takes seven epochs to tell");
    }
    let (early, late) = (&whole[2..4], &whole[whole.len() - 2..]);
    if early.iter().chain(late).any(|peak| *peak == 0) {
        return Err("the memory of nodes could not be read");
    }
    let most = |of: &[u64]| of.iter().copied().max().unwrap_or(0) as f64;
    Ok(most(late) / most(early))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tables_are_read() {
        let stat = "7 (a name) with) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (a"), None);
        assert_eq!(rss_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        let snmp = "Ip: A B\nIp: 1 2\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors\nUdp: 5 6 7 8 9 10\n";
        assert_eq!(no_room(snmp), Some(9));
        // This process' own.
        let own = std::process::id();
        assert!(rss_bytes(&read(own, "status")).is_some_and(|bytes| bytes > 100_000));
        assert!(cpu_seconds(&read(own, "stat")).is_some());
        assert!(no_room(&std::fs::read_to_string("/proc/net/snmp").unwrap()).is_some());
    }

    #[test]
    fn memory_that_grows_from_epoch_to_epoch_is_seen() {
        let mut memory = Memory::default();
        for (epoch, bytes) in [(4, 10), (4, 30), (4, 20), (5, 40)] {
            memory.add(epoch, bytes);
        }
        assert_eq!(memory.peaks, [30, 40]);
        assert!(growth(&[1, 2, 3, 4, 5, 6]).is_err(), "too few");
        // The last epoch is not whole.
        assert_eq!(growth(&[1, 2, 100, 100, 100, 101, 7]), Ok(1.01));
        assert_eq!(growth(&[1, 2, 100, 90, 100, 125, 120, 7]), Ok(1.25));
        assert!(growth(&[]).is_err());
    }

    #[test]
    fn memory_that_cannot_be_read_is_not_taken_for_memory_that_stays() {
        let unread = Err("the memory of nodes could not be read");
        assert_eq!(growth(&[0; 8]), unread);
        assert_eq!(growth(&[1, 2, 100, 0, 100, 101, 7]), unread);
        assert_eq!(growth(&[1, 2, 100, 100, 100, 0, 7]), unread);
        // One of the two is gone.
        let mut memory = Memory::default();
        let own = (Role::Mix, std::process::id());
        memory.look(&[own, (Role::Gateway, u32::MAX)], 1);
        assert_eq!(memory.peaks, [0]);
        memory.look(&[own], 1);
        assert!(memory.peaks[0] > 0);
    }
}
