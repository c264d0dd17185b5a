//! What the page is shown: the nodes with how they fare, the traffic between layers, what happened.

use super::*;

#[test]
fn the_own_node_is_shown_as_it_fares_with_its_traffic_and_its_end_is_an_event() {
    let members = nodes(2, 3);
    let board = board(0);
    board.put(vec![held(document_of(0, &members))], Some(own(&members[2])));
    let served = Served::new(&board, None);
    let of = |received: u64| NodeStatus {
        started_unix_ms: 1,
        totals: handover::status::Totals {
            received,
            transmitted: 2 * received,
            ..Default::default()
        },
        ..NodeStatus::default()
    };
    // In a while from now, so that it holds as long as the test takes.
    let later = Instant::now() + Duration::from_secs(600);
    let earlier = later - Duration::from_secs(2);
    served.witness.hear(earlier, Some(of(0)));
    served.witness.hear(later, Some(of(2_400)));
    let updates: Updates = served.get("/api/v1/updates").unwrap();
    assert_eq!(updates.status.state, State::Ready);
    assert_eq!(updates.nodes.len(), 5);
    let (own, others): (Vec<_>, Vec<_>) = updates.nodes.iter().partition(|node| node.own);
    assert_eq!(own.len(), 1);
    assert_eq!((own[0].state, own[0].pps), (State::Ready, Some(1_200.0)));
    let layer = own[0].layer;
    assert_eq!(own[0].place, format!("layer {layer}"));
    for node in others {
        assert_eq!((node.state, node.pps), (State::Unknown, None));
    }
    let next = (layer + 1) % (network::PARAMETERS.layers + 1);
    let mut expected = vec![(layer - 1, layer, 1_200.0), (layer, next, 2_400.0)];
    expected.sort_by_key(|(from, ..)| *from);
    assert_eq!(updates.flows, expected);
    // It may have been looked at before the node spoke: then that it is ready is one.
    let bad = |event: &shapes::Event| event.level == shapes::Level::Error;
    assert!(!updates.events.iter().any(bad), "{:?}", updates.events);

    served.witness.hear(Instant::now(), None);
    let updates: Updates = served.get("/api/v1/updates").unwrap();
    assert!(updates.flows.is_empty());
    let own = updates.nodes.iter().find(|node| node.own).unwrap();
    assert_eq!((own.state, own.pps), (State::Down, None));
    let event = updates.events.last().unwrap();
    assert_eq!(event.level, shapes::Level::Error);
    assert!(event.text.starts_with("the node is down: "), "{event:?}");
}
