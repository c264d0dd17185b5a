//! The ledger: a worker's frames, and the account of where each came from and how it left.
//!
//! Pool and account lie behind one door, so that no frame enters or leaves uncounted: [`Ledger::receive`],
//! [`Ledger::generate`] and [`Ledger::adopt`] bring one in, [`Ledger::reject`], [`Ledger::absorb`] and
//! [`Ledger::depart`] take one out. Two equations hold between turns, and [`Ledger::unconserved`] says by how many
//! frames they don't:
//!
//! - `received + generated = transmitted + delivered + absorbed + Σ rejected + held`
//! - frames of the pool in use = held + the port's ([`Port::holds`])

use link::DATAGRAM_BYTES;

use crate::path::counters::Counters;
use crate::path::reason::{REASON_COUNT, Reason};
use port::pool::{Frame, FramePool};
use port::{DepartingBatch, Port, ReceivedBatch};

/// A worker's frames and their account.
pub struct Ledger {
    pool: FramePool,
    received: u64,
    generated: u64,
    transmitted: u64,
    delivered: u64,
    absorbed: u64,
    rejected: [u64; REASON_COUNT],
    /// What the port had shed at the last [`Ledger::settle`].
    shed: u64,
}

impl Ledger {
    /// An account that begins now. Frames of `pool` already in use are the port's.
    pub fn new(pool: FramePool) -> Ledger {
        Ledger {
            pool,
            received: 0,
            generated: 0,
            transmitted: 0,
            delivered: 0,
            absorbed: 0,
            rejected: [0; REASON_COUNT],
            shed: 0,
        }
    }

    /// Has the port fill `into` with what arrived; returns how many came.
    pub fn receive<P: Port>(&mut self, port: &mut P, into: &mut ReceivedBatch) -> usize {
        let before = into.len();
        port.receive(&mut self.pool, into);
        let came = into.len() - before;
        self.received += came as u64;
        came
    }

    /// A frame for something this worker makes itself; `None` when all are in use.
    pub fn generate(&mut self) -> Option<Frame> {
        let frame = self.pool.take()?;
        self.generated += 1;
        Some(frame)
    }

    /// A frame for what another worker handed over. When all are in use it counts as if it had come and found the
    /// pool full.
    pub fn adopt(&mut self) -> Option<Frame> {
        self.generated += 1;
        let frame = self.pool.take();
        if frame.is_none() {
            self.count(Reason::PoolFull, 1);
        }
        frame
    }

    /// The one way out of the packet path for a frame that failed.
    #[inline]
    pub fn reject(&mut self, frame: Frame, reason: Reason) {
        self.count(reason, 1);
        self.pool.release(frame);
    }

    /// The way out for a frame that reached its end here as it should.
    #[inline]
    pub fn absorb(&mut self, frame: Frame) {
        self.absorbed += 1;
        self.pool.release(frame);
    }

    /// Offers `departing` to the port, which takes what it can. A frame taken is the port's until
    /// [`Ledger::reclaim`].
    pub fn depart<P: Port>(&mut self, port: &mut P, departing: &mut DepartingBatch) {
        let deliveries =
            |batch: &DepartingBatch| batch.iter().filter(|one| one.delivery).count() as u64;
        let (frames, delivered) = (departing.len() as u64, deliveries(departing));
        port.transmit(departing);
        let taken = frames - departing.len() as u64;
        let delivered = delivered - deliveries(departing);
        self.delivered += delivered;
        self.transmitted += taken - delivered;
    }

    /// Takes frames back that the port has sent.
    pub fn reclaim<P: Port>(&mut self, port: &mut P) {
        port.reclaim(&mut self.pool);
    }

    /// Closes the port and takes back all that it held.
    pub fn close<P: Port>(&mut self, port: &mut P) {
        port.close(&mut self.pool);
        self.settle(port);
    }

    /// Takes what the port shed for want of a frame into the account.
    pub fn settle<P: Port>(&mut self, port: &P) {
        let shed = port.counters().pool_full;
        let new = shed - self.shed;
        self.shed = shed;
        self.received += new;
        self.count(Reason::PoolFull, new);
    }

    /// By how many frames the account is off, with `held` frames held by the worker and `with_port` by its port. Not
    /// 0 means a defect: a frame was lost or made of nothing.
    pub fn unconserved(&self, held: u64, with_port: u64) -> u64 {
        let came = self.received + self.generated;
        let rejected: u64 = self.rejected.iter().sum();
        let left = self.transmitted + self.delivered + self.absorbed + rejected;
        let in_use = u64::from(self.pool.in_use());
        came.abs_diff(left + held)
            .max(in_use.abs_diff(held + with_port))
    }

    /// Writes the account into `counters`.
    pub fn show(&self, counters: &mut Counters) {
        counters.received = self.received;
        counters.generated = self.generated;
        counters.transmitted = self.transmitted;
        counters.delivered = self.delivered;
        counters.absorbed = self.absorbed;
        counters.rejected = self.rejected;
        counters.pool_frames = u64::from(self.pool.capacity());
        counters.pool_in_use = u64::from(self.pool.in_use());
    }

    /// Datagrams that arrived so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Number of frames in all.
    pub fn capacity(&self) -> u32 {
        self.pool.capacity()
    }

    /// The datagram in `frame`.
    #[inline]
    pub fn datagram<'a>(&'a self, frame: &'a Frame) -> &'a [u8; DATAGRAM_BYTES] {
        self.pool.datagram(frame)
    }

    /// The datagram in `frame`, for writing.
    #[inline]
    pub fn datagram_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8; DATAGRAM_BYTES] {
        self.pool.datagram_mut(frame)
    }

    /// The datagrams of many frames at once, for writing, in the iterator's order.
    #[inline]
    pub fn datagrams_mut<'a, I>(
        &'a mut self,
        frames: I,
    ) -> impl Iterator<Item = &'a mut [u8; DATAGRAM_BYTES]> + 'a
    where
        I: IntoIterator<Item = &'a mut Frame>,
        I::IntoIter: 'a,
    {
        self.pool.datagrams_mut(frames)
    }

    /// Asks the processor to load the head of a datagram that will be read soon.
    #[inline]
    pub fn prefetch(&self, frame: &Frame) {
        self.pool.prefetch(frame);
    }

    fn count(&mut self, reason: Reason, count: u64) {
        self.rejected[reason as usize] += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::sync::Arc;

    use port::sim::{Conditions, Network};
    use port::{Departing, EventFd, SimPort};

    #[test]
    fn each_way_in_and_out_is_counted_and_the_account_stays_even() {
        let mut ledger = Ledger::new(FramePool::new(3).unwrap());
        let one = ledger.generate().unwrap();
        let two = ledger.adopt().unwrap();
        let three = ledger.generate().unwrap();
        assert_eq!(ledger.unconserved(3, 0), 0);
        assert!(ledger.generate().is_none(), "a full pool makes nothing");
        assert!(ledger.adopt().is_none());
        assert_eq!(ledger.unconserved(3, 0), 0);
        ledger.absorb(one);
        ledger.reject(two, Reason::Mac);
        assert_eq!(ledger.unconserved(1, 0), 0);
        ledger.absorb(three);
        let mut counters = Counters::default();
        ledger.show(&mut counters);
        assert_eq!((counters.generated, counters.absorbed), (4, 2));
        assert_eq!(counters.rejected(Reason::Mac), 1);
        assert_eq!(counters.rejected(Reason::PoolFull), 1);
        assert_eq!((counters.pool_frames, counters.pool_in_use), (3, 0));
        assert!(counters.is_conserved());
    }

    #[test]
    fn a_leaked_frame_is_unconserved_for_good() {
        let mut ledger = Ledger::new(FramePool::new(4).unwrap());
        let kept = ledger.generate().unwrap();
        // Nobody holds it, and it went through no door.
        let _leaked = ledger.generate().unwrap();
        assert_eq!(ledger.unconserved(1, 0), 1);
        ledger.absorb(kept);
        assert_eq!(ledger.unconserved(0, 0), 1);
    }

    #[test]
    fn what_a_port_loses_or_keeps_to_itself_is_unconserved() {
        let mut pool = FramePool::new(4).unwrap();
        let _lent = pool.take().unwrap();
        let ledger = Ledger::new(pool);
        assert_eq!(
            ledger.unconserved(0, 1),
            0,
            "lent to the port to receive into"
        );
        assert_eq!(ledger.unconserved(0, 0), 1);
    }

    #[test]
    fn frames_depart_as_the_port_takes_them_and_are_its_own_until_reclaimed() {
        let network = Network::new(1, Conditions::default());
        let address = SocketAddr::from(([10, 0, 0, 1], 1));
        let pool = FramePool::new(8).unwrap();
        let event = Arc::new(EventFd::new().unwrap());
        let mut port = SimPort::new(network.open(address, 2).unwrap(), event, &pool);
        let mut ledger = Ledger::new(pool);
        let mut departing = DepartingBatch::new();
        for delivery in [true, false, true, false] {
            departing.push(Departing {
                frame: ledger.generate().unwrap(),
                destination: address,
                delivery,
                proven: true,
            });
        }
        port.limit_sends(3);
        ledger.depart(&mut port, &mut departing);
        assert_eq!(departing.len(), 1);
        assert_eq!(ledger.unconserved(1, port.holds() as u64), 0);
        assert_eq!(ledger.unconserved(1, 0), 3);
        ledger.reclaim(&mut port);
        assert_eq!((port.holds(), ledger.unconserved(1, 0)), (0, 0));
        ledger.depart(&mut port, &mut departing);
        let mut counters = Counters::default();
        ledger.show(&mut counters);
        assert_eq!((counters.delivered, counters.transmitted), (2, 2));
        // Four arrive at an inbox of two.
        network.advance(1, |_| ());
        let mut received = ReceivedBatch::new();
        let came = ledger.receive(&mut port, &mut received) as u64;
        assert_eq!(came, 2);
        assert_eq!(ledger.unconserved(2, port.holds() as u64), 0);
        for one in received {
            ledger.absorb(one.frame);
        }
        ledger.close(&mut port);
        assert_eq!(ledger.unconserved(0, port.holds() as u64), 0);
    }
}
