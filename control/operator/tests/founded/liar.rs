//! An authority that lies, played at its own address with its own key: it signs two different votes for one epoch, and
//! shows each of the others another one.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use authority::admission::Admission;
use authority::ballot::Ballot;
use authority::claims::Owners;
use authority::relay::Relay;
use bytes::Bytes;
use control::http::client::Ask;
use directory::store::Store;
use directory::{Chain, Held, Identity, SignedConsensus, SignedDescriptor};
use mixnode::process::unix_ms;

use crate::host::Host;

/// Rounds of an epoch, and the one in which votes are sent.
const ROUNDS: u64 = 32;
const VOTE: u64 = 16;

fn ask(to: Ipv4Addr, path: String, body: Option<Bytes>) -> Bytes {
    let ask = Ask {
        to: SocketAddr::from((to, 7070)),
        path,
        body,
        held: None,
        from: None,
        bytes_max: 1 << 24,
        within: Duration::from_secs(10),
    };
    ask.run_alone().unwrap().body
}

/// Lies about the next document, when votes are due; returns its epoch. `nodes` are those whose descriptors it lists.
pub fn lies(
    liar: &Host,
    key: &Identity,
    chain: &Chain,
    others: &[Ipv4Addr],
    nodes: &[Host],
) -> u32 {
    let parameters = chain.parameters();
    let now = parameters.epoch_at(unix_ms());
    let epoch = now + 1;
    let round_ms = parameters.epoch_ms / ROUNDS;
    // Not at its first moment: the others' clocks are as good.
    let votes_ms = parameters.epoch_starts_ms(now) + VOTE * round_ms + round_ms / 8;
    let wait_ms = votes_ms.checked_sub(unix_ms()).expect("before the votes");
    std::thread::sleep(Duration::from_millis(wait_ms));
    let descriptors: Vec<SignedDescriptor> = nodes
        .iter()
        .flat_map(|node| {
            let store = Store::open(&node.file("/var/lib/fogmix/directory")).unwrap();
            store.read_descriptors().unwrap()
        })
        .collect();
    let work = || {
        let latest = ask(others[0], "/v1/consensus/latest".to_owned(), None);
        let latest = SignedConsensus::decode(&latest).unwrap();
        let previous = latest.verify(chain, &Held::default()).unwrap();
        let set = chain.at(epoch).unwrap();
        let lists = [&descriptors[..], &descriptors[descriptors.len() / 2..]];
        for (other, listed) in others.iter().zip(lists) {
            let ballot = Ballot {
                chain,
                previous: Some(&previous),
                epoch,
                admission: &Admission::Open,
                descriptors: listed,
                reports: &[],
                owners: &Owners::default(),
            };
            let authorities = set.authorities().unwrap();
            let mut relay = Relay::new(authorities, *chain.network(), set.generation, epoch);
            let vote = relay.begin(ballot.vote(key).unwrap(), key).unwrap();
            ask(
                *other,
                "/v1/authority/vote".to_owned(),
                Some(vote.encode().into()),
            );
        }
    };
    liar.namespace.run(work).unwrap();
    epoch
}
