//! Cases every port passes, whatever carries its datagrams.

use std::net::SocketAddr;
use std::time::Duration;

use port::pool::DATAGRAM_BYTES;
use port::{BATCH_MAX, Departing};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::{Lan, datagram, number};

pub fn datagrams_come_in_order_with_their_source_and_bytes(lan: &dyn Lan) {
    let (mut a, mut b) = (lan.node(lan.host(1), 256), lan.node(lan.host(2), 256));
    let source = a.address();
    let mut next = 0;
    for first in (0..1024).step_by(64) {
        a.send(b.address(), first, 64);
        let came = b.receive(64, |pool, received| {
            assert_eq!((received.source, number(pool, received)), (source, next));
            next += 1;
        });
        assert_eq!(came, 64);
    }
    a.close();
    b.close();
}

/// More than the 65,536 values of a buffer ring's tail, and every datagram and frame accounted for.
pub fn rings_wrap_and_no_datagram_is_unaccounted_for(lan: &dyn Lan) {
    const COUNT: u64 = 70_016;
    let (mut a, mut b) = (lan.node(lan.host(1), 128), lan.node(lan.host(2), 256));
    let mut sum = 0;
    for first in (0..COUNT).step_by(64) {
        a.send(b.address(), first, 64);
        assert_eq!(
            b.receive(64, |pool, received| sum += number(pool, received)),
            64
        );
    }
    assert_eq!(sum, COUNT * (COUNT - 1) / 2);
    let (sent, came) = (a.port.counters(), b.port.counters());
    assert_eq!((sent.transmitted, sent.transmit_failed), (COUNT, 0));
    assert_eq!((came.received, came.pool_full), (COUNT, 0));
    a.close();
    b.close();
}

/// Both ways at once, bursts of any size: nothing waits for anything.
pub fn two_ports_exchange_bursts_without_loss(lan: &dyn Lan) {
    let (mut a, mut b) = (lan.node(lan.host(1), 512), lan.node(lan.host(2), 512));
    let (mut to_a, mut to_b) = (0, 0);
    for burst in 1..=128 {
        a.send(b.address(), 0, burst);
        b.send(a.address(), 0, 129 - burst);
        to_b += b.receive(burst as usize, |_, _| ());
        to_a += a.receive(129 - burst as usize, |_, _| ());
    }
    assert_eq!((to_a, to_b), (128 * 129 / 2, 128 * 129 / 2));
    a.close();
    b.close();
}

pub fn a_full_pool_sheds_at_the_door_and_recovers(lan: &dyn Lan) {
    let (mut a, mut b) = (lan.node(lan.host(1), 256), lan.node(lan.host(2), 32));
    let mut held = Vec::new();
    for first in (0..32).step_by(8) {
        // No more than the port lends the kernel of so small a pool.
        a.send(b.address(), first, 8);
        held.extend(b.hold(8));
    }
    assert_eq!((held.len(), b.pool.available()), (32, 0));
    a.send(b.address(), 100, 100);
    for _ in 0..200 {
        assert_eq!(b.port.receive(&mut b.pool, &mut b.batch), 0);
        b.port.housekeeping();
        if b.port.counters().pool_full == 100 {
            break;
        }
        let soon = b.port.now_ns() + 1_000_000;
        b.port.wait(Some(soon)).unwrap();
    }
    assert_eq!(b.port.counters().pool_full, 100);
    held.into_iter().for_each(|frame| b.pool.release(frame));
    // A look at the port lends the kernel frames again.
    assert_eq!(b.port.receive(&mut b.pool, &mut b.batch), 0);
    a.send(b.address(), 7, 8);
    let mut next = 7;
    let came = b.receive(8, |pool, received| {
        assert_eq!(number(pool, received), next);
        next += 1;
    });
    assert_eq!(came, 8);
    assert_eq!(b.port.counters().received, 32 + 8);
    a.close();
    b.close();
}

pub fn a_port_can_be_opened_again_and_the_old_one_takes_nothing(lan: &dyn Lan) {
    let mut a = lan.node(lan.host(1), 256);
    let mut b = lan.node(lan.host(2), 64);
    let address = b.address();
    for round in 0..5 {
        a.send(address, round, 8);
        assert_eq!(b.receive(8, |_, _| ()), 8);
        // Operations are under way when it is closed; what arrives afterwards is the next one's.
        b.close();
        let exclusive = lan.exclusive(address);
        b = lan.node(address, 64);
        drop(exclusive);
    }
    b.close();
    a.close();
}

pub fn a_port_dropped_without_closing_lets_the_address_go(lan: &dyn Lan) {
    let mut a = lan.node(lan.host(1), 256);
    let mut b = lan.node(lan.host(2), 64);
    let address = b.address();
    a.send(address, 0, 16);
    // Its operations are under way now.
    assert!(b.receive(1, |_, _| ()) > 0);
    drop(b);
    let mut b = lan.node(address, 64);
    a.send(address, 0, 16);
    assert_eq!(b.receive(16, |_, _| ()), 16);
    a.close();
    b.close();
}

pub fn wait_returns_at_the_deadline_on_the_event_and_on_a_datagram(lan: &dyn Lan) {
    let (mut a, mut b) = (lan.node(lan.host(1), 64), lan.node(lan.host(2), 64));
    // A wait may return early, hence the loop; it must not return never, or this test does not.
    let deadline = b.port.now_ns() + 20_000_000;
    while b.port.now_ns() < deadline {
        assert_eq!(b.port.receive(&mut b.pool, &mut b.batch), 0);
        b.port.wait(Some(deadline)).unwrap();
    }
    // A deadline in the past returns at once.
    b.port.wait(Some(0)).unwrap();
    // Signalled before, and while, it waits without limit.
    b.event.signal();
    b.port.wait(None).unwrap();
    assert!(!b.event.clear(), "the port clears the event");
    // A signal that comes between a look into the mailbox and the wait ends the wait, whatever the port did
    // meanwhile.
    b.event.signal();
    for _ in 0..3 {
        a.send(b.address(), 0, 1);
        b.port.receive(&mut b.pool, &mut b.batch);
        b.port.reclaim(&mut b.pool);
    }
    while b.batch.len() < 3 {
        b.port.receive(&mut b.pool, &mut b.batch);
        lan.advance();
    }
    b.batch
        .drain(..)
        .for_each(|received| b.pool.release(received.frame));
    b.port.wait(None).unwrap();
    if b.port.name() != "sim" {
        for _ in 0..3 {
            let event = std::sync::Arc::clone(&b.event);
            let signaller = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                event.signal();
            });
            b.port.wait(None).unwrap();
            signaller.join().unwrap();
            b.event.clear();
        }
    }
    // A datagram wakes it, also one that comes while nothing was received for long.
    a.send(b.address(), 0, 1);
    while b.port.receive(&mut b.pool, &mut b.batch) == 0 {
        b.port.wait(None).unwrap();
    }
    b.batch
        .drain(..)
        .for_each(|received| b.pool.release(received.frame));
    a.close();
    b.close();
}

/// Broadcast without permission: the kernel refuses that datagram, and only that one.
pub fn a_refused_destination_is_counted_and_does_not_stop_the_others(lan: &dyn Lan) {
    let (mut a, mut b) = (lan.node(lan.host(1), 64), lan.node(lan.host(2), 64));
    if a.port.name() == "sim" {
        return;
    }
    for n in 0..9 {
        let mut frame = a.pool.take().unwrap();
        *a.pool.datagram_mut(&mut frame) = datagram(n);
        let refused: SocketAddr = "255.255.255.255:9".parse().unwrap();
        let destination = if n % 3 == 1 { refused } else { b.address() };
        a.departing.push(Departing {
            frame,
            destination,
            delivery: false,
            proven: true,
        });
    }
    a.send(b.address(), 0, 0);
    assert_eq!(b.receive(6, |_, _| ()), 6);
    let counters = a.port.counters();
    assert_eq!((counters.transmitted, counters.transmit_failed), (6, 3));
    a.close();
    b.close();
}

/// Transmit takes what fits from the front and leaves the rest, in order, with the caller.
pub fn transmit_without_reclaim_stops_taking_and_loses_nothing(lan: &dyn Lan) {
    let (mut a, mut b) = (lan.node(lan.host(1), 1024), lan.node(lan.host(2), 4096));
    let destination = b.address();
    let mut taken = 0;
    for _ in 0..16 {
        while !a.departing.is_full() {
            let mut frame = a.pool.take().unwrap();
            *a.pool.datagram_mut(&mut frame) = datagram(0);
            a.departing.push(Departing {
                frame,
                destination,
                delivery: false,
                proven: true,
            });
        }
        taken += a.port.transmit(&mut a.departing);
    }
    assert!((256..1024).contains(&taken), "{taken}");
    assert_eq!(a.port.in_flight(), taken);
    assert_eq!(b.receive(taken, |_, _| ()), taken);
    while a.port.in_flight() > 0 {
        a.port.reclaim(&mut a.pool);
    }
    let left = a.departing.len();
    assert!(left > 0);
    a.send(destination, 0, 0);
    assert_eq!(b.receive(left, |_, _| ()), left);
    a.close();
    b.close();
}

pub fn a_closed_port_moves_nothing(lan: &dyn Lan) {
    let (mut a, mut b) = (lan.node(lan.host(1), 64), lan.node(lan.host(2), 64));
    b.port.receive(&mut b.pool, &mut b.batch);
    b.port.close(&mut b.pool);
    b.port.close(&mut b.pool);
    a.send(b.address(), 0, 4);
    b.event.signal();
    b.port.wait(Some(0)).unwrap();
    assert_eq!(b.port.receive(&mut b.pool, &mut b.batch), 0);
    let frame = b.pool.take().unwrap();
    b.departing.push(Departing {
        frame,
        destination: a.address(),
        delivery: false,
        proven: true,
    });
    assert_eq!(b.port.transmit(&mut b.departing), 0);
    b.departing
        .drain(..)
        .for_each(|one| b.pool.release(one.frame));
    b.close();
    a.close();
}

pub fn a_port_may_be_built_on_one_thread_and_used_on_another(lan: &dyn Lan) {
    let (mut a, mut b) = (lan.node(lan.host(1), 64), lan.node(lan.host(2), 64));
    let destination = b.address();
    let (port, pool) = (&mut a.port, &mut a.pool);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut frame = pool.take().unwrap();
            *pool.datagram_mut(&mut frame) = datagram(1);
            let mut departing = port::DepartingBatch::new();
            departing.push(Departing {
                frame,
                destination,
                delivery: false,
                proven: true,
            });
            assert_eq!(port.transmit(&mut departing), 1);
            port.close(pool);
            assert_eq!(pool.in_use(), 0);
        });
    });
    assert_eq!(b.receive(1, |_, _| ()), 1);
    a.close();
    b.close();
}

/// The receiver drops some at random, holds others, and runs out of frames again and again: every packet is either
/// received or counted as shed, and at the end every frame is back.
pub fn a_million_packets_with_random_drops_are_all_accounted_for(lan: &dyn Lan) {
    const COUNT: u64 = 1_000_000;
    let mut rng = ChaCha20Rng::seed_from_u64(10);
    let (mut a, mut b) = (lan.node(lan.host(1), 128), lan.node(lan.host(2), 96));
    let destination = b.address();
    let mut held = Vec::new();
    let (mut sent, mut came, mut kept) = (0, 0, 0);
    while sent < COUNT {
        let burst = (1 + rng.next_u64() % 64).min(COUNT - sent);
        a.send(destination, sent, burst);
        sent += burst;
        let mut patience = 500;
        loop {
            assert!(patience > 0, "{came} + {} of {sent}", b.shed());
            if b.port.receive(&mut b.pool, &mut b.batch) == 0 {
                if came + b.shed() == sent {
                    break;
                }
                patience -= 1;
                let soon = b.port.now_ns() + 10_000_000;
                b.port.wait(Some(soon)).unwrap();
            }
            for received in b.batch.drain(..) {
                came += 1;
                if rng.next_u64().is_multiple_of(4) {
                    kept += 1;
                    held.push((number(&b.pool, &received), received.frame));
                } else {
                    b.pool.release(received.frame);
                }
            }
        }
        // What was held is what was received, whatever came and went beside it.
        while held.len() > 80 || (!held.is_empty() && rng.next_u64().is_multiple_of(8)) {
            let any = rng.next_u64() as usize % held.len();
            let (number, frame) = held.swap_remove(any);
            assert_eq!(*b.pool.datagram(&frame), datagram(number));
            b.pool.release(frame);
        }
    }
    let shed = b.shed();
    assert_eq!((came + shed, a.port.counters().transmitted), (COUNT, COUNT));
    assert!(
        came > COUNT / 4 && kept > COUNT / 32,
        "{came} came, {kept} were held"
    );
    held.into_iter()
        .for_each(|(_, frame)| b.pool.release(frame));
    a.close();
    b.close();
}

/// Empty datagrams and long ones between the right ones: on io_uring each empty one used to end a batch.
pub fn empty_datagrams_do_not_cut_batches_short(lan: &dyn Lan) {
    const RIGHT: usize = 48;
    let mut b = lan.node(lan.host(2), 256);
    let stranger = lan.stranger();
    // Arms what is to be armed.
    assert_eq!(b.port.receive(&mut b.pool, &mut b.batch), 0);
    for _ in 0..4 {
        for n in 0..RIGHT {
            stranger.send(b.address(), &[]);
            stranger.send(b.address(), &datagram(n as u64));
            stranger.send(b.address(), &[7; DATAGRAM_BYTES + 1]);
        }
        lan.advance();
        // All of it is there before the port looks.
        std::thread::sleep(Duration::from_millis(20));
        let (mut came, mut batches, mut patience) = (0, 0, 50);
        while came < RIGHT {
            assert!(patience > 0, "{came} of {RIGHT} came");
            if b.port.receive(&mut b.pool, &mut b.batch) == 0 {
                patience -= 1;
                let soon = b.port.now_ns() + 10_000_000;
                b.port.wait(Some(soon)).unwrap();
                continue;
            }
            batches += 1;
            for received in b.batch.drain(..) {
                if received.length == DATAGRAM_BYTES {
                    assert_eq!(number(&b.pool, &received), came as u64);
                    came += 1;
                }
                b.pool.release(received.frame);
            }
        }
        let most = 3 * RIGHT / BATCH_MAX + 2;
        assert!(batches <= most, "{batches} batches for {RIGHT} datagrams");
        while b.port.receive(&mut b.pool, &mut b.batch) > 0 {
            b.batch
                .drain(..)
                .for_each(|received| b.pool.release(received.frame));
        }
    }
    b.close();
}

/// Nothing allocates once a port runs.
pub fn a_port_does_not_allocate_after_start(lan: &dyn Lan) {
    let (mut a, mut b) = (lan.node(lan.host(1), 256), lan.node(lan.host(2), 256));
    let destination = b.address();
    let mut exchange = |rounds: u64| {
        for round in 0..rounds {
            a.send(destination, 64 * round, 64);
            assert_eq!(b.receive(64, |_, _| ()), 64);
        }
    };
    // Arms the receive, makes the ring the thread's, and lets the simulated network grow to its size.
    exchange(4);
    assert_eq!(super::counting::allocations_of(|| exchange(200)), 0);
    a.close();
    b.close();
}

/// Calls the suite's macro with what it wants first, a semicolon, and the names of all cases.
#[macro_export]
macro_rules! every_case {
    ($suite:ident [$($first:tt)*]) => {
        $suite! { $($first)* ; [
            datagrams_come_in_order_with_their_source_and_bytes
            rings_wrap_and_no_datagram_is_unaccounted_for
            two_ports_exchange_bursts_without_loss
            a_full_pool_sheds_at_the_door_and_recovers
            a_port_can_be_opened_again_and_the_old_one_takes_nothing
            a_port_dropped_without_closing_lets_the_address_go
            wait_returns_at_the_deadline_on_the_event_and_on_a_datagram
            a_refused_destination_is_counted_and_does_not_stop_the_others
            transmit_without_reclaim_stops_taking_and_loses_nothing
            a_closed_port_moves_nothing
            a_port_may_be_built_on_one_thread_and_used_on_another
            a_million_packets_with_random_drops_are_all_accounted_for
            empty_datagrams_do_not_cut_batches_short
            a_port_does_not_allocate_after_start
        ] }
    };
}
