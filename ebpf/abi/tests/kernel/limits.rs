//! Who is admitted and who spends whose tokens.

use aya::maps::HashMap;
use ebpf_abi::{Address, Config, Rate, Rates, Reason};

use super::Kernel;
use super::cases;
use super::frames::{BOTH, Builder, INDEX, PORT, V4, V6};

const SLOW: Rate = Rate::new(1, 3);
/// Both kinds of initiations alike.
const SLOW_BOTH: Rates = Rates {
    bare: SLOW,
    mac2: SLOW,
};

#[test]
#[ignore = "needs root"]
fn a_frame_with_an_unknown_index_is_dropped_and_costs_its_forged_source_no_token() {
    let mut kernel = Kernel::new(Config {
        port: PORT.into(),
        source: SLOW,
        ..Config::default()
    });
    for v6 in BOTH {
        let mut forged = Builder::new(v6, 4);
        forged.payload[8] ^= 1;
        for _ in 0..100 {
            assert_eq!(kernel.run(&forged.build()), Reason::UnknownIndex);
        }
        let source = if v6 {
            cases::prefix(V6)
        } else {
            cases::mapped(V4)
        };
        kernel.own(INDEX, source);
        let honest = Builder::new(v6, 4).build();
        for _ in 0..3 {
            assert_eq!(kernel.run(&honest), Reason::KernelSocket);
        }
        assert_eq!(kernel.run(&honest), Reason::SourceRate);
    }
}

#[test]
#[ignore = "needs root"]
fn an_index_that_is_removed_is_unknown_from_then_on() {
    let mut kernel = Kernel::open();
    let frame = Builder::new(false, 4).build();
    assert_eq!(kernel.run(&frame), Reason::KernelSocket);
    let mut sessions: HashMap<_, u32, Address> =
        kernel.ebpf.map_mut("SESSIONS").unwrap().try_into().unwrap();
    sessions.remove(&INDEX).unwrap();
    assert_eq!(kernel.run(&frame), Reason::UnknownIndex);
}

#[test]
#[ignore = "needs root"]
fn the_bucket_is_one_for_each_ipv4_address_and_each_ipv6_prefix_of_64_bits() {
    let config = Config {
        port: PORT.into(),
        source: Rate::new(1, 1),
        ..Config::default()
    };
    let mut kernel = Kernel::new(config);
    let mut run = |builder: &Builder| kernel.run(&builder.build());
    let mut v4 = Builder::new(false, 4);
    assert_eq!(run(&v4), Reason::KernelSocket);
    assert_eq!(run(&v4), Reason::StrangerRate);
    v4.v4_source[3] ^= 1;
    assert_eq!(run(&v4), Reason::KernelSocket);
    let mut v6 = Builder::new(true, 4);
    assert_eq!(run(&v6), Reason::KernelSocket);
    v6.v6_source[8] ^= 1;
    assert_eq!(run(&v6), Reason::StrangerRate);
    v6.v6_source[7] ^= 1;
    assert_eq!(run(&v6), Reason::KernelSocket);
}

#[test]
#[ignore = "needs root"]
fn a_peer_has_a_rate_of_its_own() {
    let mut kernel = Kernel::new(Config {
        port: PORT.into(),
        source: Rate::new(1, 1),
        ..Config::default()
    });
    for (v6, source) in [(false, cases::mapped(V4)), (true, cases::prefix(V6))] {
        kernel.peer(source, Rate::new(1, 5));
        kernel.own(INDEX, source);
        let frame = Builder::new(v6, 4).build();
        for _ in 0..5 {
            assert_eq!(kernel.run(&frame), Reason::KernelSocket);
        }
        assert_eq!(kernel.run(&frame), Reason::SourceRate);
    }
}

#[test]
#[ignore = "needs root"]
fn a_peer_whose_rate_is_above_a_quarter_of_the_capacity_is_held_to_the_quarter() {
    let peer_interval_ns = Config::peer_floor_ns(4);
    let mut kernel = Kernel::new(Config {
        port: PORT.into(),
        peer_interval_ns,
        ..Config::default()
    });
    kernel.peer(cases::mapped(V4), Rate::UNLIMITED);
    kernel.own(INDEX, cases::mapped(V4));
    let frame = Builder::new(false, 4).build();
    assert_eq!(kernel.run(&frame), Reason::KernelSocket);
    assert_eq!(kernel.run(&frame), Reason::SourceRate);
}

#[test]
#[ignore = "needs root"]
fn what_nodes_send_beyond_their_own_rates_passes_while_their_queue_has_room_and_clients_have_none()
{
    let mut kernel = Kernel::new(Config {
        port: PORT.into(),
        source: SLOW,
        ..Config::default()
    });
    kernel.beyond(Rate::new(1, 4));
    let others = [192, 0, 2, 99];
    let mut frames = Vec::new();
    for (index, address) in [(1_u32, V4), (2, others)] {
        kernel.peer(cases::mapped(address), Rate::new(1, 5));
        kernel.own(index, cases::mapped(address));
        let mut frame = Builder::new(false, 4);
        frame.v4_source = address;
        frame.payload[8..12].copy_from_slice(&index.to_le_bytes());
        frames.push(frame.build());
    }
    for _ in 0..5 + 3 {
        assert_eq!(kernel.run(&frames[0]), Reason::KernelSocket);
    }
    // The other node has its own rate nevertheless, and then what is left for both.
    for _ in 0..5 + 1 {
        assert_eq!(kernel.run(&frames[1]), Reason::KernelSocket);
    }
    for frame in &frames {
        assert_eq!(kernel.run(frame), Reason::SourceRate);
    }
    kernel.beyond(Rate::new(1, 4));
    kernel.own(INDEX, cases::prefix(V6));
    let client = Builder::new(true, 4).build();
    for _ in 0..3 {
        assert_eq!(kernel.run(&client), Reason::KernelSocket);
    }
    assert_eq!(kernel.run(&client), Reason::SourceRate);
}

#[test]
#[ignore = "needs root"]
fn initiations_of_one_source_have_a_limit_that_frames_of_sessions_do_not_share() {
    let config = Config {
        port: PORT.into(),
        stranger: SLOW_BOTH,
        ..Config::default()
    };
    let mut kernel = Kernel::new(config);
    for v6 in BOTH {
        for mac2 in BOTH {
            let initiation = initiation(v6, mac2).build();
            for _ in 0..3 {
                assert_eq!(kernel.run(&initiation), Reason::KernelSocket);
            }
            assert_eq!(kernel.run(&initiation), Reason::HandshakeSourceRate);
        }
        for kind in 2..=4 {
            assert_eq!(
                kernel.run(&Builder::new(v6, kind).build()),
                Reason::KernelSocket
            );
        }
    }
}

/// An initiation with or without a mac2.
fn initiation(v6: bool, mac2: bool) -> Builder {
    let mut builder = Builder::new(v6, 1);
    builder.payload[1_216..].fill(u8::from(mac2));
    builder
}

#[test]
#[ignore = "needs root"]
fn initiations_from_many_sources_meet_the_limit_of_their_kind_and_leave_the_others_alone() {
    let config = Config {
        port: PORT.into(),
        strangers: SLOW_BOTH,
        ..Config::default()
    };
    let mut kernel = Kernel::new(config);
    // The limit is each CPU's, and the test may move between them.
    let cpus = std::thread::available_parallelism().unwrap().get();
    for (mac2, limit) in [
        (false, Reason::HandshakeRate),
        (true, Reason::HandshakeCookieRate),
    ] {
        let mut refused = 0;
        for source in 0..200_u8 {
            let mut builder = initiation(false, mac2);
            builder.v4_source[3] = source;
            match kernel.run(&builder.build()) {
                Reason::KernelSocket => {}
                reason if reason == limit => refused += 1,
                other => panic!("{}", other.name()),
            }
        }
        assert!(refused >= 200 - 4 * cpus, "only {refused} refused");
        assert!(refused < 200, "one kind has spent the other's");
    }
    assert_eq!(
        kernel.run(&Builder::new(false, 4).build()),
        Reason::KernelSocket
    );
}

#[test]
#[ignore = "needs root"]
fn a_flood_of_initiations_leaves_each_node_of_the_consensus_its_own() {
    let config = Config {
        port: PORT.into(),
        member: SLOW_BOTH,
        stranger: SLOW_BOTH,
        strangers: SLOW_BOTH,
        ..Config::default()
    };
    let mut kernel = Kernel::new(config);
    for v6 in BOTH {
        let source = if v6 {
            cases::prefix(V6)
        } else {
            cases::mapped(V4)
        };
        kernel.peer(source, Rate::UNLIMITED);
        for number in 0..=255 {
            for mac2 in BOTH {
                let mut flood = initiation(v6, mac2);
                flood.v4_source[0] = 198;
                flood.v4_source[3] = number;
                flood.v6_source[0] = 0xfd;
                flood.v6_source[7] = number;
                kernel.run(&flood.build());
            }
        }
        // Forged in its name without a cookie: what it has one for is still its own.
        for mac2 in BOTH {
            let own = initiation(v6, mac2).build();
            for _ in 0..3 {
                assert_eq!(kernel.run(&own), Reason::KernelSocket);
            }
            assert_eq!(kernel.run(&own), Reason::HandshakeMemberRate);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn guessed_indices_of_a_chosen_peer_cost_it_no_token() {
    let mut kernel = Kernel::new(Config {
        port: PORT.into(),
        source: SLOW,
        ..Config::default()
    });
    for v6 in BOTH {
        let source = if v6 {
            cases::prefix(V6)
        } else {
            cases::mapped(V4)
        };
        kernel.peer(source, Rate::new(1, 5));
        let session = |index: u32| {
            let mut builder = Builder::new(v6, 4);
            builder.payload[8..12].copy_from_slice(&index.to_le_bytes());
            builder.build()
        };
        // Its own session, another node's, a client's that is not proved, and none.
        kernel.own(1, source);
        kernel.own(2, cases::mapped([192, 0, 2, 99]));
        kernel.own(3, [0; 16]);
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..100 {
            for index in 2..=4 {
                *seen.entry(kernel.run(&session(index)).name()).or_insert(0) += 1;
            }
        }
        assert_eq!(seen["unknown_index"], 100);
        let admitted = seen["kernel_socket"];
        assert!((3..6).contains(&admitted), "{seen:?}");
        assert_eq!(seen["stranger_rate"], 200 - admitted, "{seen:?}");
        for _ in 0..5 {
            assert_eq!(kernel.run(&session(1)), Reason::KernelSocket);
        }
        assert_eq!(kernel.run(&session(1)), Reason::SourceRate);
    }
}
