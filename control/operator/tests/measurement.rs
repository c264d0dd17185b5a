//! What an operator hears of an attack that keeps all packets from a node, and of a dead neighbour, from real processes: two
//! gateways and two layers of two mixes, one authority. The daemon is asked, the node's page by way of it, and its log. No
//! root; how long it takes decides nothing.

use control::api::shapes::{Level, Loops, Status, Updates};
use rustix::process::Signal;

mod programs;
mod running;
mod scene;
use running::wait_until;
use scene::{NODES, Scene, Traffic};

fn warns_of(status: &Status, words: &str) -> bool {
    status.warnings.iter().any(|text| text.contains(words))
}

fn has_event(updates: &Updates, level: Level, text: &str) -> bool {
    let mut events = updates.events.iter();
    events.any(|event| event.level == level && event.text == text)
}

fn names(loops: &Loops, operator: &str) -> bool {
    let mut bad = loops.bad.iter();
    bad.any(|hop| hop.operator.as_deref() == Some(operator))
}

#[test]
fn a_node_that_gets_nothing_warns_until_that_is_over_and_one_with_a_dead_neighbour_names_it() {
    let scene = Scene::open(Traffic {
        epoch: "30s",
        loop_interval_ms: 50,
        max_pps: 2_000,
    });
    wait_until("loops that come home", || {
        scene.measured("mixnode_loop_returned_total") > Some(100.0)
    });
    wait_until("a node that suspects nobody", || {
        scene.is_suspected() == Some(false)
    });

    // Nothing that others send reaches the first node: the layer before it stands still.
    let of_layer = |layers: &[u64], layer: u64| -> Vec<usize> {
        (0..NODES)
            .filter(|number| layers[*number] == layer)
            .collect()
    };
    // A turn may deal them anew: then others are stopped.
    let mut stopped: Vec<usize> = Vec::new();
    wait_until("a warning of n-1", || {
        let before = scene
            .layers()
            .map(|layers| of_layer(&layers, layers[0] - 1));
        if let Some(before) = before
            && before != stopped
        {
            stopped
                .iter()
                .for_each(|number| scene.signal(*number, Signal::CONT));
            before
                .iter()
                .for_each(|number| scene.signal(*number, Signal::STOP));
            stopped = before;
        }
        // Those before it are silent, which tells this from a fault of its own on the way out.
        let silent = scene.measured("mixnode_previous_silent_ratio");
        let told = scene.updates().and_then(|updates| {
            let silence = updates.loops?.silence?;
            let is_told = warns_of(&updates.status, "somebody keeps their packets from it");
            Some((silence.silent, silence.of, is_told))
        });
        scene.is_suspected() == Some(true) && silent == Some(1.0) && told == Some((2, 2, true))
    });
    stopped
        .iter()
        .for_each(|number| scene.signal(*number, Signal::CONT));
    wait_until("its end", || scene.is_suspected() == Some(false));
    let log = std::fs::read_to_string(scene.path("0.toml.log")).unwrap();
    assert!(log.contains("n-1 suspected"), "{log}");
    let last = "no longer: n-1 suspected";
    wait_until("the events of it", || {
        scene.updates().is_some_and(|updates| {
            has_event(&updates, Level::Warning, "n-1 suspected")
                && has_event(&updates, Level::Info, last)
        })
    });

    // A gateway dies: half of all loops are lost. It is named, and nobody is suspected as long as it is listed.
    wait_until("a quiet node in a whole network", || {
        let is_quiet = |loops: Loops| loops.bad.is_empty() && !loops.n1_suspected;
        let loops = scene.updates().and_then(|updates| updates.loops);
        scene.layers().is_some() && loops.is_some_and(is_quiet)
    });
    let before = scene.log_lines("n-1 suspected");
    let dead = NODES - 1;
    let named = format!("operator {dead}");
    scene.signal(dead, Signal::KILL);
    wait_until("the dead one's name", || {
        let updates = scene.updates();
        updates.is_some_and(|updates| {
            let is_named = updates.loops.is_some_and(|loops| names(&loops, &named));
            is_named && warns_of(&updates.status, &named)
        })
    });
    wait_until("a document without it", || {
        let nodes = scene.updates().map(|updates| updates.nodes);
        nodes.is_some_and(|nodes| {
            !nodes.is_empty() && nodes.iter().all(|node| node.operator != named)
        })
    });
    assert_eq!(scene.log_lines("n-1 suspected"), before);
}
