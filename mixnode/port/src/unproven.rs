//! Datagrams to addresses that nobody has answered from yet: answers to handshakes, whose sources anyone can make up.
//!
//! The kernel holds a datagram to a neighbour that does not exist until it has asked for it three times, about three
//! seconds, and counts it against the socket's send buffer meanwhile. A few hundred of them fill it, and then everything
//! else waits. So they may take a part of it and no more, and what does not fit is dropped: its sender asks again.

use std::net::UdpSocket;

use crate::DepartingBatch;
use crate::door::Memory;
use crate::pool::Frame;

/// The part of the send buffer that they may take, as its inverse: what else is in it counts.
const SHARE: u32 = 4;
/// Bytes the kernel counts for a datagram at least.
const DATAGRAM_COST: u32 = 2_048;

/// Takes out of the first `offered` of `departing` what is to go to an unproven address and finds no room, and gives the
/// frames to `drop`; returns how many. Asks the kernel only if there is any.
pub(crate) fn shed(
    socket: &UdpSocket,
    departing: &mut DepartingBatch,
    offered: usize,
    mut drop: impl FnMut(Frame),
) -> usize {
    if departing.iter().take(offered).all(|one| one.proven) {
        return 0;
    }
    // A kernel that does not say (before Linux 4.12) gets them all.
    let mut room = Memory::of(socket).map_or(u32::MAX, |memory| room(&memory));
    let (mut kept, mut shed) = (0, 0);
    for _ in 0..offered {
        let fits = match departing.get(kept) {
            Some(one) if one.proven => true,
            Some(_) => room > 0,
            None => break,
        };
        if fits {
            room -= u32::from(!departing[kept].proven);
            kept += 1;
        } else if let Some(one) = departing.pop_at(kept) {
            drop(one.frame);
            shed += 1;
        }
    }
    shed
}

/// How many of them may be sent now; at least one into an empty buffer, however small it is.
fn room(memory: &Memory) -> u32 {
    let share = (memory.sending_max / SHARE).max(1);
    share.saturating_sub(memory.sending).div_ceil(DATAGRAM_COST)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::Departing;
    use crate::pool::FramePool;

    #[test]
    fn strangers_get_a_part_of_the_buffer_and_what_others_have_in_it_counts() {
        let memory = |sending, sending_max| Memory {
            sending,
            sending_max,
            dropped: 0,
        };
        assert_eq!(room(&memory(0, 425_984)), 52);
        assert_eq!(room(&memory(53_248, 425_984)), 26);
        assert_eq!(room(&memory(106_496, 425_984)), 0);
        assert_eq!(room(&memory(400_000, 425_984)), 0);
        assert_eq!(room(&memory(0, 1)), 1);
    }

    #[test]
    fn only_what_is_unproven_is_shed_and_the_order_of_the_rest_stays() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&socket)
            .set_send_buffer_size(1)
            .unwrap();
        let most = room(&Memory::of(&socket).unwrap()) as usize;
        let mut pool = FramePool::new(64).unwrap();
        let mut departing = DepartingBatch::new();
        for port in 0..64 {
            departing.push(Departing {
                frame: pool.take().unwrap(),
                destination: SocketAddr::from(([127, 0, 0, 1], port)),
                delivery: false,
                proven: port % 2 == 1,
            });
        }
        // 20 unproven ones are looked at; what is behind stays.
        let shed = shed(&socket, &mut departing, 40, |frame| pool.release(frame));
        assert_eq!(shed, 20 - most);
        assert_eq!(departing.len(), 64 - shed);
        let ports: Vec<u16> = departing.iter().map(|one| one.destination.port()).collect();
        assert!(ports.is_sorted());
        let proven = departing.iter().filter(|one| one.proven).count();
        assert_eq!(proven, 32);
        assert_eq!(
            super::shed(&socket, &mut departing, 0, |_| unreachable!()),
            0
        );
        departing.drain(..).for_each(|one| pool.release(one.frame));
    }
}
