//! What the service manager hears of a node: that it is up, what it does, and that its workers turn.

use std::time::Instant;

use program::manager::Manager;

/// Told by the control loop; silent where there is no manager.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    manager: Option<Manager>,
    /// Each worker's turns when the manager last heard that the node lives.
    turns: Vec<u64>,
    /// When it wants to hear that next.
    due: Option<Instant>,
    /// What it was told last.
    said: String,
}

impl Pulse {
    pub fn of(manager: Option<Manager>) -> Pulse {
        Pulse {
            manager,
            ..Pulse::default()
        }
    }

    /// The port is up. Whether the network lists the node is another matter, and takes epochs.
    pub fn ready(&self) {
        self.manager.iter().for_each(Manager::ready);
    }

    /// The node is about to end.
    pub fn stopping(&self) {
        self.manager.iter().for_each(Manager::stopping);
    }

    /// Says what the node does, if that is something else than before.
    pub fn status(&mut self, text: String) {
        if let Some(manager) = &self.manager
            && text != self.said
        {
            manager.status(&text);
            self.said = text;
        }
    }

    /// Says that the node lives if it is time and **every** worker has turned since the last time. One that stands still
    /// keeps it silent, and the manager restarts the node. To be called all the time.
    pub fn beat<T: Iterator<Item = u64>>(&mut self, now: Instant, turns: impl FnOnce() -> T) {
        let Some(manager) = &self.manager else {
            return;
        };
        let Some(every) = manager.alive_every() else {
            return;
        };
        if self.due.is_some_and(|due| now < due) {
            return;
        }
        let turns: Vec<u64> = turns().collect();
        let mut workers = self.turns.iter().zip(&turns);
        if workers.all(|(before, now)| before != now) {
            manager.alive();
            self.turns = turns;
            self.due = Some(now + every);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_manager_hears_that_the_node_lives_only_while_every_worker_turns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let played = UnixDatagram::bind(&path).unwrap();
        played.set_nonblocking(true).unwrap();
        let heard = || {
            let mut bytes = [0; 256];
            let count = played.recv(&mut bytes).ok()?;
            Some(String::from_utf8(bytes[..count].to_vec()).unwrap())
        };
        let patience = Some(Duration::from_secs(3));
        let manager = Manager::at(path.as_os_str().as_bytes(), patience).unwrap();
        let mut pulse = Pulse::of(Some(manager));
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let alive = Some("WATCHDOG=1".to_owned());
        pulse.beat(start, || [5, 5].into_iter());
        assert_eq!(heard(), alive);
        pulse.beat(start + second / 2, || [9, 9].into_iter());
        assert_eq!(heard(), None, "not yet");
        pulse.beat(start + second, || [9, 9].into_iter());
        assert_eq!(heard(), alive);
        // Worker 1 stands still.
        for later in 2..9 {
            let turns = u64::from(later) * 10;
            pulse.beat(start + second * later, || [turns, 9].into_iter());
            assert_eq!(heard(), None, "after {later} s");
        }
        pulse.beat(start + second * 9, || [100, 10].into_iter());
        assert_eq!(heard(), alive);
        for text in ["epoch 7", "epoch 7", "epoch 8"] {
            pulse.status(text.to_owned());
        }
        let said = |epoch| Some(format!("STATUS=epoch {epoch}"));
        assert_eq!([heard(), heard(), heard()], [said(7), said(8), None]);
    }
}
