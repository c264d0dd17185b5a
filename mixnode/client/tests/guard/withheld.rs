//! A gateway that withholds an epoch's document from its clients.

use fog::{Event, GuardState};

use super::common::{Network, Stall};
use super::{MINUTE, SECOND, Slow, network};

/// A client of gateway 0 at the turn to epoch 4.
fn at_the_turn(network: &mut Network) -> usize {
    let slow = Slow {
        rate_pps: 20.0,
        ..Slow::new(network)
    };
    network.run(3 * MINUTE + 20 * SECOND, |_| false);
    let client = slow.backed(network, GuardState::default(), false);
    let seat = network.join(client);
    // What was made before the turn leaves a moment after it.
    network.run(4 * MINUTE + SECOND, |_| false);
    seat
}

#[test]
fn a_gateway_that_withholds_a_document_gets_link_cover_alone_until_the_reserves_have_said_more() {
    // The network has the document, or none was made.
    for is_made in [true, false] {
        let mut network = network(84, 60_000);
        let own = network.gateway(0);
        match is_made {
            true => network.withholds.push((own, 4)),
            false => network.missing = Some(4),
        }
        let seat = at_the_turn(&mut network);
        let packets = |network: &Network| network.packets[&own];
        let before = packets(&network);
        let asks = |network: &Network| {
            let client = network.seats[seat].client.as_ref().unwrap();
            client.is_asking_others()
        };
        network.run(5 * MINUTE, |network| asks(network));
        let answered = network.run(5 * MINUTE, |network| !asks(network));
        let until_ns = network.now_ns - 4 * MINUTE;
        let meanwhile = packets(&network) - before;
        println!(
            "made: {is_made}: asked until {:.1} s of the epoch; {meanwhile} packets meanwhile",
            until_ns as f64 / 1e9
        );
        assert!(answered, "the reserves answer");
        assert_eq!(meanwhile, 0, "nothing but link cover");
        network.run(4 * MINUTE + 40 * SECOND, |_| false);
        assert!(packets(&network) > before + 100, "then it goes on");
        let asked = [1, 2, 3, 4].map(|number| {
            let gateway = network.gateway(number);
            network.attaches.contains_key(&gateway)
        });
        assert_eq!(asked, [true, !is_made, false, false], "reserves alone");
    }
}

#[test]
fn reserves_that_do_not_answer_are_passed_over_and_others_asked() {
    let mut network = network(85, 60_000);
    network.withholds.push((network.gateway(0), 4));
    network.silent.push(network.gateway(1));
    network.full.push(network.gateway(2));
    let seat = at_the_turn(&mut network);
    network.run(4 * MINUTE + 50 * SECOND, |_| false);
    let has = |event: &Event| matches!(event, Event::Consensus { epoch: 4, .. });
    assert!(network.seats[seat].events.iter().any(has));
}

/// A client of two slots a second at gateway 0, which withholds the document of epoch 4, in the first second of that
/// epoch of four minutes. Others behave as `others` says.
fn slow_at_the_turn(seed: u64, others: impl Fn(&mut Network)) -> (Network, usize) {
    let mut network = network(seed, 4 * MINUTE / 1_000_000);
    let slow = Slow {
        rate_pps: 2.0,
        ..Slow::new(&mut network)
    };
    network.withholds.push((network.gateway(0), 4));
    others(&mut network);
    network.run(15 * MINUTE, |_| false);
    let client = slow.backed(&mut network, GuardState::default(), false);
    let seat = network.join(client);
    // What was made before the turn leaves a moment after it.
    network.run(16 * MINUTE + SECOND, |_| false);
    assert!(network.packets[&network.gateway(0)] > 60);
    (network, seat)
}

fn has_the_document(network: &Network, seat: usize) -> bool {
    let has = |event: &Event| matches!(event, Event::Consensus { epoch: 4, .. });
    network.seats[seat].events.iter().any(has)
}

/// Packets that gateway 0 got, and those of them that were of an epoch before that of now.
fn packets(network: &Network) -> (u64, u64) {
    let own = network.gateway(0);
    let old = network.old_packets.get(&own).copied();
    (network.packets[&own], old.unwrap_or(0))
}

#[test]
fn attack_a_gateway_that_withholds_a_document_from_a_slow_client_does_not_keep_it_from_it() {
    let (mut network, seat) = slow_at_the_turn(89, |_| ());
    let (_, before) = packets(&network);
    // An eighth of the epoch is 30 s; the document has 14 parts or so, and a question leaves every two seconds.
    let arrived = network.run(18 * MINUTE, |network| has_the_document(network, seat));
    let took_s = (network.now_ns - 16 * MINUTE) as f64 / 1e9;
    println!("the document was there {took_s:.0} s after the turn");
    assert!(arrived);
    network.run(19 * MINUTE, |_| false);
    let (all, old) = packets(&network);
    assert_eq!(old, before);
    assert!(all > 100, "it goes on with the new one");
    for never in [2, 3, 4] {
        assert_eq!(network.attaches.get(&network.gateway(never)), None);
    }
}

#[test]
fn attack_a_gateway_that_withholds_a_document_and_keeps_all_others_busy_gets_no_old_packets() {
    let (mut network, seat) = slow_at_the_turn(90, |network| {
        network
            .silent
            .extend([2, 4].map(|number| network.gateway(number)));
        network
            .full
            .extend([1, 3].map(|number| network.gateway(number)));
    });
    let before = packets(&network);
    network.run(19 * MINUTE, |_| false);
    let asked = [1, 3].map(|number| network.attaches[&network.gateway(number)]);
    println!("gateways without room were asked {asked:?} times");
    assert_eq!(packets(&network), before, "silence is no word");
    assert!(asked.iter().all(|asked| *asked > 1), "and all asked again");
    network.silent.clear();
    network.full.clear();
    let arrived = network.run(20 * MINUTE, |network| has_the_document(network, seat));
    assert!(arrived, "one of them answers");
}

#[test]
fn a_gateway_that_is_asked_again_for_a_document_knows_the_client_and_goes_on_where_it_was() {
    let (mut network, seat) = slow_at_the_turn(91, |_| ());
    let first = network.gateway(1);
    let before = packets(&network);
    let attached = network.run(17 * MINUTE, |network| network.attaches.contains_key(&first));
    assert!(attached, "the first reserve is asked");
    // Half of the document's parts come, then nothing from anybody.
    network.run(network.now_ns + 14 * SECOND, |_| false);
    let others = [1, 2, 3, 4].map(|number| network.gateway(number));
    network.silent.extend(others);
    network.run(19 * MINUTE, |_| false);
    assert_eq!(packets(&network), before);
    network.silent.clear();
    let fetched = network.fetched[&first];
    let arrived = network.run(20 * MINUTE, |network| has_the_document(network, seat));
    assert!(arrived);
    let again = network.fetched[&first] - fetched;
    println!("{fetched} parts before the silence, {again} after it");
    assert_eq!(
        network.mailboxes(1),
        1,
        "no second place for the same client"
    );
    assert!(fetched >= 5 && again > 0 && again < 11);
}

#[test]
fn attack_a_gateway_that_begins_to_hand_a_document_over_and_stops_holds_nobody_up_for_the_epoch() {
    let (mut network, seat) = slow_at_the_turn(93, |network| {
        network.withholds.push((network.gateway(2), 4));
        network
            .full
            .extend([3, 4].map(|number| network.gateway(number)));
    });
    let first = network.gateway(1);
    let attached = network.run(17 * MINUTE, |network| network.attaches.contains_key(&first));
    assert!(attached, "the first reserve is asked");
    network.run(network.now_ns + 14 * SECOND, |_| false);
    assert!(network.fetched[&first] >= 3, "it has begun");
    network.silent.extend([first]);
    let before = packets(&network);
    network.run(network.now_ns + 20 * SECOND, |_| false);
    assert_eq!(packets(&network), before, "what was begun may still come");
    network.run(18 * MINUTE + 45 * SECOND, |_| false);
    assert!(!has_the_document(&network, seat));
    let (all, _) = packets(&network);
    assert!(
        all > before.0 + 10,
        "one has said that there is none, and nothing came"
    );
}

#[test]
fn attack_a_gateway_that_withholds_the_document_before_too_does_not_keep_others_from_being_asked() {
    let mut network = network(92, 60_000);
    network.withholds.push((network.gateway(0), 3));
    network.run(2 * MINUTE + SECOND, |_| false);
    let slow = Slow {
        rate_pps: 20.0,
        ..Slow::new(&mut network)
    };
    // It was away since epoch 2.
    let client = slow.backed(&mut network, GuardState::default(), false);
    network.run(4 * MINUTE + SECOND, |_| false);
    let seat = network.join(client);
    let arrived = network.run(5 * MINUTE, |network| has_the_document(network, seat));
    assert!(arrived);
}

#[test]
fn attack_a_gateway_that_neither_hands_a_document_over_nor_denies_it_does_not_keep_others_from_being_asked()
 {
    for (seed, stall) in [
        (93, Stall::Silent),
        (94, Stall::Endless),
        (95, Stall::Forged),
    ] {
        let mut network = network(seed, 60_000);
        network.stalls.push((network.gateway(0), 4, stall));
        let seat = at_the_turn(&mut network);
        let (before, _) = packets(&network);
        network.run(5 * MINUTE - SECOND, |network| {
            has_the_document(network, seat)
        });
        let took_s = (network.now_ns - 4 * MINUTE) as f64 / 1e9;
        println!(
            "{stall:?}: the document was there {took_s:.0} s after the turn: {}",
            has_the_document(&network, seat)
        );
        assert!(has_the_document(&network, seat), "{stall:?}");
        assert_eq!(packets(&network).0, before, "link cover alone until then");
        network.run(5 * MINUTE - SECOND, |_| false);
        assert!(packets(&network).0 > before + 100, "then it goes on");
        // An eighth of the epoch for its own, then the reserves.
        assert!((7.5..30.0).contains(&took_s), "{took_s}");
        for never in [2, 3, 4] {
            assert_eq!(network.attaches.get(&network.gateway(never)), None);
        }
    }
}
