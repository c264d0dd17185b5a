//! Nothing on a packet's way through the crate allocates. The crate is `no_std` without `alloc`; this counts what
//! its dependencies do.
#![allow(unsafe_code, reason = "an allocator that counts")]

mod common;

use arrayvec::ArrayVec;
use common::{Network, body, engine, rng};
use sphinx::lanes::Lanes;
use sphinx::{
    BATCH_MAX, Job, PACKET_BYTES, Terminal, WrapJob, surb_create, surb_open, surb_use, wrap,
    wrap_batch,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches no memory it hands out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is the one that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, and so from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn wrapping_opening_and_replying_allocate_nothing() {
    let network = Network::new(5, &mut rng(1));
    let mut packets = vec![[0; PACKET_BYTES]; BATCH_MAX];
    let mut engine = engine();
    let mut verdicts = ArrayVec::new();
    let (mut rng, body) = (rng(2), body(3));
    let terminal = Terminal::Deliver {
        destination: [0; 16],
        id: [0; 8],
    };

    let before = ALLOCATIONS.with(Cell::get);
    let (surb, secret) = surb_create(&mut rng, &network.path, 1, [0; 16], [0; 8]).unwrap();
    for (index, packet) in packets.iter_mut().enumerate() {
        wrap(&mut rng, &network.path, &terminal, &body, packet).unwrap();
        packet[0] ^= u8::from(index % 5 == 0);
    }
    let mut results = ArrayVec::<_, 8>::new();
    let (rest, _) = packets[48..].as_chunks_mut::<8>();
    for packets in rest {
        let mut jobs = packets.each_mut().map(|packet| WrapJob::Packet {
            path: &network.path,
            terminal: &terminal,
            body: &body,
            packet,
        });
        wrap_batch(Lanes::detect(), &mut rng, &mut jobs, &mut results);
    }
    packets[48..]
        .iter_mut()
        .step_by(5)
        .for_each(|packet| packet[0] ^= 1);
    surb_use(&surb, &[0; 880], &mut packets[1]);
    for hop in &network.secrets {
        let mut jobs: ArrayVec<_, BATCH_MAX> = packets
            .iter_mut()
            .map(|packet| Job {
                packet,
                secret: hop,
            })
            .collect();
        engine.unwrap_batch(&mut jobs, &mut |_, _| Ok(()), &mut verdicts);
        assert_eq!(
            verdicts.iter().filter(|verdict| verdict.is_ok()).count(),
            50
        );
    }
    let mut reply = packets[1][304..].try_into().unwrap();
    assert_eq!(surb_open(&secret, &mut reply), Ok([0; 880]));
    assert_eq!(ALLOCATIONS.with(Cell::get), before);
}
