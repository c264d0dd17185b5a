//! What there is to say, from what is known.

use directory::store::hex;
use handover::status::NodeStatus;

use super::measured::{anonymity, warnings};
use super::page::Page;
use super::shapes::{
    Epoch, Epochs, Flow, InForce, Node, OwnNode, Pool, Rates, Seen, State, Status, Worker, Workers,
};
use crate::board::{Document as Held, Followed};

/// Why there is no document in force, and what to do.
pub(super) fn no_document(followed: &Followed) -> String {
    match followed.documents.last() {
        None => "no document yet: authorities publish one an epoch; if it stays like this for two, mixctld's log says what \
                 they answer"
            .to_owned(),
        Some(last) => format!(
            "no document in force: the newest is of epoch {}, and none of the authorities has a later one; mixctld's log \
             says what they answer",
            last.consensus.epoch()
        ),
    }
}

/// Of the node here in a document: whether it is listed, and its layer if it carries.
fn place(held: &Held, followed: &Followed) -> (bool, Option<u8>) {
    let own = followed.own.as_ref();
    let node = own.and_then(|own| held.consensus.find(&own.identity));
    let carries = node.filter(|node| node.layer != directory::WAITING);
    (node.is_some(), carries.map(|node| node.layer))
}

pub(super) fn epochs(followed: &Followed, node: Option<&NodeStatus>, now_ms: u64) -> Epochs {
    let now = followed.parameters.epoch_at(now_ms);
    let joined = |epoch: u32| {
        let node = node?;
        Some(node.epochs.iter().any(|joined| joined.epoch == epoch))
    };
    let epoch = |held: &Held| {
        let (listed, layer) = place(held, followed);
        Epoch {
            epoch: held.consensus.epoch(),
            consensus_hash: hex(held.consensus.digest()),
            nodes: held.consensus.nodes().len(),
            listed,
            layer,
            joined: joined(held.consensus.epoch()),
        }
    };
    Epochs {
        now,
        starts_unix_ms: followed.parameters.epoch_starts_ms(now),
        ends_unix_ms: followed.parameters.epoch_ends_ms(now),
        in_force: followed.in_force(now).map(|held| held.consensus.epoch()),
        epochs: followed.documents.iter().map(epoch).collect(),
    }
}

pub(super) fn status(
    followed: &Followed,
    said: Option<&NodeStatus>,
    now_ms: u64,
    page: Page,
    is_of_one: bool,
) -> Status {
    let now = followed.parameters.epoch_at(now_ms);
    let held = followed.in_force(now);
    let document = held.map(|held| InForce {
        epoch: held.consensus.epoch(),
        digest: hex(held.consensus.digest()),
        age_ms: now_ms.saturating_sub(held.consensus.starts_ms()),
        nodes: held.consensus.nodes().len(),
    });
    let (listed, layer) = held.map_or((false, None), |held| place(held, followed));
    let node = followed.own.as_ref().map(|own| OwnNode {
        identity: hex(&own.identity),
        operator: own.operator.clone(),
        role: own.role.to_string(),
        listed,
        layer,
        port: page.port,
        keys_origin: page.keys_origin,
        lanes: said.map(|said| said.lanes.clone()),
        sandbox: said.map(|said| said.sandbox.clone()),
        started_unix_ms: said.map(|said| said.started_unix_ms),
    });
    let mut not_ready = page.not_ready;
    if held.is_none() {
        not_ready.push(no_document(followed));
    } else if node.is_none() && is_of_one {
        not_ready.push(
            "the node has not described itself (is its [network] directory mixctld's [directory] folder?), or several nodes \
             have: remove the descriptors of others from that folder's descriptors/"
                .to_owned(),
        );
    } else if !listed && is_of_one {
        not_ready.push(
            "the document in force does not list this node: the authorities' operators admit it with `mixctl authority \
             nodes add`, and it joins an epoch or two later"
                .to_owned(),
        );
    }
    let state = match page.state {
        State::Ready | State::Waiting if held.is_none() && !followed.documents.is_empty() => {
            State::Stale
        }
        state => state,
    };
    Status {
        version: directory::version().to_owned(),
        unix_ms: now_ms,
        state,
        not_ready,
        network: hex(&followed.network),
        epoch: now,
        ends_unix_ms: followed.parameters.epoch_ends_ms(now),
        document,
        node,
        counters: page.counters,
        rates: None,
        anonymity: said.and_then(anonymity),
        warnings: said.map_or_else(Vec::new, |said| warnings(said, followed)),
        clock: None,
    }
}

/// How a node fares, and what it receives and sends a second, as far as it is known.
pub(super) type Fares = (State, Option<Rates>);

/// The nodes of the document in force. `fares` knows of some of them.
pub(super) fn seen(
    followed: &Followed,
    now: u32,
    fares: impl Fn(&directory::Node) -> Option<Fares>,
) -> (Vec<Seen>, Vec<Flow>) {
    let Some(held) = followed.in_force(now) else {
        return (Vec::new(), Vec::new());
    };
    let own = followed.own.as_ref().map(|own| own.identity);
    let layers = usize::from(held.consensus.parameters().layers);
    // Of each layer, what its mixes receive and send; none if none of them says so.
    let mut sums: Vec<Option<(f64, f64)>> = vec![None; layers + 1];
    let mut nodes = Vec::new();
    for (node, listed) in held
        .consensus
        .nodes()
        .iter()
        .zip(Node::all(&held.consensus))
    {
        let (state, rates) = fares(node).unwrap_or((State::Unknown, None));
        if let (Some(rates), 1..) = (rates, node.layer)
            && let Some(sum) = sums.get_mut(usize::from(node.layer))
        {
            let (received, sent) = sum.unwrap_or_default();
            *sum = Some((received + rates.received, sent + rates.transmitted));
        }
        nodes.push(Seen {
            place: listed.place(),
            own: own == Some(node.identity),
            state,
            pps: rates.map(|rates| rates.received),
            index: listed.index,
            identity: listed.identity,
            role: listed.role,
            operator: listed.operator,
            layer: listed.layer,
            weight: listed.weight,
        });
    }
    // What leaves a layer arrives at the next: one of both ends is enough.
    let of = |layer: usize| sums.get(layer).copied().flatten();
    let flow = |from: usize| {
        let to = (from + 1) % (layers + 1);
        let sent = of(from).map(|(_, sent)| sent);
        let pps = sent.or_else(|| of(to).map(|(received, _)| received))?;
        Some((u8::try_from(from).ok()?, u8::try_from(to).ok()?, pps))
    };
    (nodes, (0..=layers).filter_map(flow).collect())
}

pub(super) fn workers(node: &NodeStatus) -> Workers {
    let worker = |(number, worker): (usize, &handover::status::Worker)| Worker {
        number,
        turns: worker.turns,
        received: worker.received,
        held: worker.held,
        pool: Pool {
            frames: worker.pool_frames,
            in_use: worker.pool_in_use,
        },
        sessions: worker.sessions,
    };
    Workers {
        lateness_us: node.lateness_us,
        hold_us: node.hold_us,
        workers: node.workers.iter().enumerate().map(worker).collect(),
    }
}
