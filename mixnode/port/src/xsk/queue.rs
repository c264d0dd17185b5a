//! One queue of the interface: a socket, its rings, and how many chunks the kernel has through them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::net::xdp::{XdpDesc, XdpDescOptions, XdpOptionsFlags, XdpStatistics};
use rustix::net::{RecvFlags, SendFlags};

use super::chunks::Chunks;
use super::map::{Rings, prefers_busy_poll};
use crate::pool::{Frame, FramePool};
use handover::protocol::{FILL_ENTRIES, RING_ENTRIES};

/// A queue's socket, as the loader hands it over: with packet memory, nothing in its rings yet, bound now or before packets
/// are steered to it.
#[derive(Debug)]
pub struct QueueSocket {
    /// The interface's queue.
    pub queue: u32,
    /// The AF_XDP socket. Nobody else may use its rings.
    pub socket: OwnedFd,
}

/// Chunks lent for receiving to each of `queues` queues, of a pool of `frames`: a quarter of it, as far as the rings
/// hold that many. The rest is for packets that wait.
pub fn lend_limit(frames: u32, queues: usize) -> u32 {
    let queues = u32::try_from(queues).unwrap_or(u32::MAX).max(1);
    (frames / 4 / queues).clamp(1, FILL_ENTRIES)
}

/// Whether the driver reads and writes packet memory itself: of a socket that is bound.
///
/// # Errors
/// What the kernel answered: the descriptor is no AF_XDP socket.
pub fn is_zero_copy(socket: impl AsFd) -> io::Result<bool> {
    let options = rustix::net::sockopt::xdp_options(socket)?;
    Ok(options.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY))
}

/// A queue in use.
pub(super) struct Queue {
    rings: Rings,
    /// Its place among the port's queues.
    place: u16,
    /// Chunks the kernel has to receive into: in the fill ring, in its hands, or in the receive ring.
    receiving: u32,
    /// Chunks the kernel has to send: in the transmit ring, in its hands, or in the completion ring.
    sending: u32,
    limit: u32,
    /// The socket was bound without the flags that say when a system call is needed.
    always_kick: bool,
    /// The loader was asked for busy polling: the kernel takes packets from the NIC when a call asks for them.
    busy_poll: bool,
    /// The socket is of no more use: its interface is gone.
    failed: bool,
}

impl Queue {
    /// Maps the rings of `socket`.
    ///
    /// # Errors
    /// The descriptor is no AF_XDP socket set up as the loader does.
    pub(super) fn new(socket: OwnedFd, place: u16, limit: u32) -> io::Result<Queue> {
        let rings = Rings::map(socket)?;
        Ok(Queue {
            // A socket bound to say when it needs waking says so at first.
            always_kick: !rings.transmit.needs_wakeup(),
            busy_poll: prefers_busy_poll(rings.socket())?,
            failed: false,
            rings,
            place,
            receiving: 0,
            sending: 0,
            limit,
        })
    }

    /// Lends the kernel frames of `pool` while both have room for more.
    pub(super) fn refill(&mut self, pool: &mut FramePool, chunks: &mut Chunks) {
        let wanted = self.limit.saturating_sub(self.receiving);
        if wanted == 0 {
            return;
        }
        for _ in 0..wanted.min(self.rings.fill.room(wanted)) {
            let Some(frame) = pool.take() else { break };
            let address = chunks.receive_into(frame, self.place);
            if self.rings.fill.push(address).is_err() {
                // There was room: only then is a chunk taken out.
                if let Some(frame) = chunks.received(address, self.place) {
                    pool.release(frame);
                }
                break;
            }
            self.receiving += 1;
        }
        if self.rings.fill.publish() > 0 && self.rings.fill.needs_wakeup() {
            // A driver that waits for chunks looks again.
            self.wake_receiver();
        }
    }

    /// Has the kernel look for packets, if it was told to do that only when asked, and none is waiting.
    pub(super) fn look(&mut self) {
        if !self.failed && !self.has_packets() && (self.busy_poll || self.rings.fill.is_slept_on())
        {
            self.wake_receiver();
        }
    }

    /// Wakes a driver that ran out of chunks before it was given those that lie there. It may have raised its flag after
    /// the flag was read behind the last of them, so it is read again before every sleep.
    pub(super) fn wake_driver(&mut self) {
        if !self.failed && !self.has_packets() && self.rings.fill.is_slept_on() {
            self.wake_receiver();
        }
    }

    fn wake_receiver(&self) {
        let mut nothing = [0_u8; 0];
        // What it does about it shows in the rings.
        let _ = rustix::net::recv(self.rings.socket(), &mut nothing, RecvFlags::DONTWAIT);
    }

    /// Notes that the socket is of no more use; says whether that is new.
    pub(super) fn fail(&mut self) -> bool {
        !std::mem::replace(&mut self.failed, true)
    }

    /// Whether the socket is of no more use.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether a packet is waiting.
    pub(super) fn has_packets(&mut self) -> bool {
        self.rings.receive.available() > 0
    }

    /// The next packet: its frame, and where in the chunk it lies. `Some(None)` is an entry that makes no sense.
    pub(super) fn receive(
        &mut self,
        chunks: &mut Chunks,
    ) -> Option<Option<(Frame, std::ops::Range<usize>)>> {
        let packet = self.rings.receive.pop()?;
        let Some(frame) = chunks.received(packet.addr, self.place) else {
            return Some(None);
        };
        self.receiving = self.receiving.saturating_sub(1);
        let start = (packet.addr % crate::pool::CHUNK_BYTES as u64) as usize;
        // A packet in several chunks has no datagram of the right size: an empty range is as good.
        let length = match packet.options.is_empty() {
            true => packet.len as usize,
            false => 0,
        };
        Some(Some((frame, start..start.saturating_add(length))))
    }

    /// Gives the places of what was received back to the kernel; counts an index that makes no sense.
    pub(super) fn received(&mut self) -> u64 {
        self.rings.receive.release();
        u64::from(self.rings.receive.is_corrupt())
    }

    /// Whether another packet can be sent.
    pub(super) fn has_room(&mut self) -> bool {
        // Bounded so that the completion ring, which is larger, has room for everything under way.
        !self.failed && self.sending < RING_ENTRIES && self.rings.transmit.room(1) > 0
    }

    /// Puts a frame whose packet lies in `place` of its chunk into the transmit ring. Ask [`Queue::has_room`] first:
    /// without room the frame comes back.
    pub(super) fn transmit(
        &mut self,
        frame: Frame,
        place: std::ops::Range<usize>,
        chunks: &mut Chunks,
    ) -> Result<(), Frame> {
        let base = chunks.send(frame, self.place);
        let packet = XdpDesc {
            addr: base + place.start as u64,
            len: place.len() as u32,
            options: XdpDescOptions::empty(),
        };
        if self.rings.transmit.push(packet).is_err() {
            return chunks.sent(base, self.place).map_or(Ok(()), Err);
        }
        self.sending += 1;
        Ok(())
    }

    /// Has the kernel send what is in the transmit ring. In copy mode it takes 32 packets a call and says EAGAIN when
    /// more are left; that, and a kernel that is full for the moment, is no error: what stays is tried again later.
    pub(super) fn kick(&mut self) {
        self.rings.transmit.publish();
        if self.failed {
            return;
        }
        let mut pending = self.rings.transmit.pending();
        while pending > 0 && (self.always_kick || self.rings.transmit.needs_wakeup()) {
            let outcome = rustix::net::send(self.rings.socket(), &[], SendFlags::DONTWAIT);
            let left = self.rings.transmit.pending();
            if left >= pending || !matches!(outcome, Ok(_) | Err(rustix::io::Errno::AGAIN)) {
                break;
            }
            pending = left;
        }
    }

    /// The next frame the kernel has sent. `Some(None)` is an entry that makes no sense.
    pub(super) fn completed(&mut self, chunks: &mut Chunks) -> Option<Option<Frame>> {
        let Some(address) = self.rings.completion.pop() else {
            self.rings.completion.release();
            return None;
        };
        let frame = chunks.sent(address, self.place);
        self.sending = self.sending.saturating_sub(u32::from(frame.is_some()));
        Some(frame)
    }

    /// Frames under way to the wire.
    pub(super) fn sending(&self) -> usize {
        self.sending as usize
    }

    /// What the kernel counted for this socket.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(super) fn statistics(&self) -> io::Result<XdpStatistics> {
        Ok(rustix::net::sockopt::xdp_statistics(self.rings.socket())?)
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.rings.socket().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_share_a_quarter_of_the_pool_and_each_gets_something() {
        assert_eq!(lend_limit(1 << 20, 1), FILL_ENTRIES);
        assert_eq!(lend_limit(512, 1), 128);
        assert_eq!(lend_limit(512, 4), 32);
        assert_eq!(lend_limit(2, 8), 1);
        assert_eq!(lend_limit(64, 0), 16);
    }

    #[test]
    fn a_descriptor_that_is_no_xsk_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(Queue::new(file.into(), 0, 1).is_err());
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(Queue::new(socket.into(), 0, 1).is_err());
    }
}
