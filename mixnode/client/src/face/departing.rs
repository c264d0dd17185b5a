//! The departure thread: waits for the slots, seals, sends, and does nothing else.
//!
//! The rest of the client hands it what it has made through a bounded queue, which the thread empties at each slot
//! without ever waiting for it. It tells what became of it in counters, and wakes the other thread.

use std::io;
use std::net::UdpSocket;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use crate::carrier::{Departures, Gone, Supply};
use crate::client::Client;

/// Supplies on the way; what finds no room waits with the client that made it.
const SUPPLIES_MAX: usize = 64;
/// The longest sleep, so that a request to stop is seen.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// How long before its slot the thread is awake. A processor with nothing else to do takes about 100 us to wake up, a busy
/// one does not: who sees the shortest gaps would see which it is.
const EARLY_NS_MAX: u64 = 200_000;
/// And at most so small a part of the time between slots, for it costs the processor.
const EARLY_PART: u64 = 25;

/// What a thread reads its clock from, nanoseconds.
type NowNs = Box<dyn Fn() -> u64 + Send>;

/// [`Gone`], shared.
#[derive(Default)]
struct Board {
    handshakes: AtomicU64,
    questions: AtomicU64,
    ready: AtomicU64,
    reserve: AtomicU64,
    reserve_sent: AtomicU64,
    datagrams: AtomicU64,
    slots: AtomicU64,
    /// Why the last datagram did not leave, as the system numbers it; 0: it did.
    refused: AtomicI32,
}

impl Board {
    fn write(&self, gone: Gone) {
        self.handshakes.store(gone.handshakes, Ordering::Relaxed);
        self.questions.store(gone.questions, Ordering::Relaxed);
        self.ready.store(gone.ready, Ordering::Relaxed);
        self.reserve.store(gone.reserve, Ordering::Relaxed);
        self.reserve_sent
            .store(gone.reserve_sent, Ordering::Relaxed);
        self.datagrams.store(gone.datagrams, Ordering::Relaxed);
        self.slots.store(gone.slots, Ordering::Relaxed);
    }

    fn read(&self) -> Gone {
        Gone {
            handshakes: self.handshakes.load(Ordering::Relaxed),
            questions: self.questions.load(Ordering::Relaxed),
            ready: self.ready.load(Ordering::Relaxed),
            reserve: self.reserve.load(Ordering::Relaxed),
            reserve_sent: self.reserve_sent.load(Ordering::Relaxed),
            datagrams: self.datagrams.load(Ordering::Relaxed),
            slots: self.slots.load(Ordering::Relaxed),
        }
    }
}

/// The thread as the rest of the client sees it; it ends with this.
pub(crate) struct Departing {
    supplies: SyncSender<Supply>,
    /// What found no room.
    held: Option<Supply>,
    board: Arc<Board>,
    wake: Arc<OwnedFd>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Departing {
    /// Starts the thread, which reads its clock from `now_ns`: one that counts the machine's sleep, for what was made
    /// before it is of an old epoch and must not leave.
    pub(crate) fn start(
        departures: Departures,
        socket: UdpSocket,
        now_ns: NowNs,
    ) -> io::Result<Self> {
        let (supplies, supplied) = sync_channel(SUPPLIES_MAX);
        let board = Arc::new(Board::default());
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = Arc::new(eventfd(0, flags)?);
        let stop = Arc::new(AtomicBool::new(false));
        let mut clock = Clock {
            departures,
            socket,
            now_ns,
            supplied,
            board: Arc::clone(&board),
            wake: Arc::clone(&wake),
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new()
            .name("departures".to_owned())
            .spawn(move || clock.run())?;
        Ok(Self {
            supplies,
            held: None,
            board,
            wake,
            stop,
            thread: Some(thread),
        })
    }

    /// Tells the client what has become of its supplies up to `now_ns`, and takes over what there is room for.
    pub(crate) fn exchange(&mut self, client: &mut Client, now_ns: u64) {
        client.departed(self.board.read(), now_ns);
        while let Some(supply) = self.held.take().or_else(|| client.supply()) {
            match self.supplies.try_send(supply) {
                Ok(()) => {}
                Err(TrySendError::Full(supply) | TrySendError::Disconnected(supply)) => {
                    self.held = Some(supply);
                    return;
                }
            }
        }
    }

    /// Why the last datagram did not leave.
    pub(crate) fn refused(&self) -> Option<io::Error> {
        match self.board.refused.load(Ordering::Relaxed) {
            0 => None,
            number => Some(io::Error::from_raw_os_error(number)),
        }
    }

    /// Whether the thread has ended although nobody asked it to.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Readable after a slot.
    pub(crate) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The wake-up was seen.
    pub(crate) fn woken(&self) {
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
    }
}

impl Drop for Departing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Clock {
    departures: Departures,
    socket: UdpSocket,
    now_ns: NowNs,
    supplied: Receiver<Supply>,
    board: Arc<Board>,
    wake: Arc<OwnedFd>,
    stop: Arc<AtomicBool>,
}

impl Clock {
    fn run(&mut self) {
        // Timers of others would draw a slot to their time else, and how many there are depends on what else is done.
        let _ = rustix::thread::set_current_timer_slack(Some(NonZeroU64::MIN));
        let early_ns = EARLY_NS_MAX.min(self.departures.mean_gap_ns() / EARLY_PART);
        while !self.stop.load(Ordering::Relaxed) {
            let now_ns = (self.now_ns)();
            let wait_ns = self.departures.slot_ns().saturating_sub(now_ns);
            if wait_ns > early_ns {
                let sleep = Duration::from_nanos(wait_ns - early_ns);
                std::thread::sleep(sleep.min(SLEEP_MAX));
                continue;
            }
            for supply in self.supplied.try_iter().take(SUPPLIES_MAX) {
                self.departures.take(supply);
            }
            let mut now_ns = now_ns;
            while now_ns < self.departures.slot_ns() {
                std::hint::spin_loop();
                now_ns = (self.now_ns)();
            }
            if let Some((to, datagram)) = self.departures.depart(now_ns) {
                // A datagram that can't leave is a lost one.
                let refused = self.socket.send_to(&datagram, to).err();
                let number = refused.and_then(|error| error.raw_os_error());
                self.board
                    .refused
                    .store(number.unwrap_or(0), Ordering::Relaxed);
            }
            self.board.write(self.departures.gone());
            // Fails only when nobody has looked for 2^64 slots.
            let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::carrier::departures_of_an_epoch;

    /// Departures and supplies of an epoch that ends in ten seconds; the machine sleeps for half a minute before its next slot.
    /// What then leaves of the old epoch, by a clock that counts the sleep or one that does not.
    fn after_a_sleep(counts_sleep: bool) -> u64 {
        let (departures, made) = departures_of_an_epoch(10_000_000_000);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let began = Instant::now();
        let slept = Arc::new(AtomicU64::new(0));
        let now_ns: NowNs = {
            let slept = Arc::clone(&slept);
            Box::new(move || {
                let awake_ns = u64::try_from(began.elapsed().as_nanos()).unwrap();
                awake_ns + slept.load(Ordering::Relaxed)
            })
        };
        if counts_sleep {
            slept.store(30_000_000_000, Ordering::Relaxed);
        }
        let departing = Departing::start(departures, socket, now_ns).unwrap();
        for supply in made {
            departing.supplies.try_send(supply).ok().unwrap();
        }
        // Slots that find nothing hold cover of the link.
        while departing.board.read().datagrams < 12 {
            assert!(began.elapsed() < Duration::from_secs(60), "nothing leaves");
            std::thread::sleep(Duration::from_millis(5));
        }
        departing.board.read().reserve_sent
    }

    #[test]
    fn attack_after_a_suspend_no_packet_of_a_dead_epoch_leaves() {
        let (awake, asleep) = (after_a_sleep(false), after_a_sleep(true));
        println!(
            "{awake} packets of the old epoch leave by a clock that stood still, {asleep} by one that did not"
        );
        assert!(awake > 0);
        assert_eq!(asleep, 0);
    }
}
