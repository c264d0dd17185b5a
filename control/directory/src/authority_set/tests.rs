use super::*;

fn key(number: u8) -> Identity {
    Identity::from_bytes(&[number; 32])
}

fn address(number: u8) -> SocketAddr {
    ([192, 0, 2, number], 7_070).into()
}

fn members(numbers: &[u8]) -> Vec<Member> {
    let mut members: Vec<_> = numbers
        .iter()
        .map(|&number| Member {
            key: key(number).public(),
            address: address(number),
        })
        .collect();
    members.sort_by_key(|member| member.key);
    members
}

fn parameters() -> Parameters {
    Parameters {
        genesis_unix_ms: 1_700_000_000_000,
        epoch_ms: 1_200_000,
        mean_delay_us: 50_000,
        client_rate_pps: 20,
        layers: 3,
    }
}

fn founding(numbers: &[u8]) -> SignedSet {
    let mut set = SignedSet::founding(parameters(), members(numbers)).unwrap();
    numbers.iter().for_each(|&number| set.sign(&key(number)));
    set
}

fn signed(set: AuthoritySet, by: &[u8]) -> SignedSet {
    let mut set = SignedSet::propose(set).unwrap();
    by.iter().for_each(|&number| set.sign(&key(number)));
    set
}

/// A set after the newest of `chain`.
fn next(chain: &Chain, numbers: &[u8]) -> AuthoritySet {
    let last = chain.sets().last().unwrap().set();
    let next = chain.propose(last.first_epoch + 10, members(numbers));
    next.unwrap().set().clone()
}

fn chain() -> Chain {
    Chain::found(founding(&[1, 2, 3])).unwrap()
}

#[test]
fn a_chain_grows_by_sets_that_the_one_before_and_every_new_member_signed() {
    let mut chain = chain();
    let second = signed(next(&chain, &[2, 3, 4]), &[2, 3, 4]);
    chain.extend(second.clone()).unwrap();
    let third = signed(next(&chain, &[3, 4, 5]), &[2, 4, 5]);
    chain.extend(third).unwrap();
    let keys = |epoch| chain.at(epoch).unwrap().members.clone();
    assert_eq!(keys(0), members(&[1, 2, 3]));
    assert_eq!(keys(9), members(&[1, 2, 3]));
    assert_eq!(keys(10), members(&[2, 3, 4]));
    assert_eq!(keys(u32::MAX), members(&[3, 4, 5]));
    assert_eq!(Chain::decode(&chain.encode()), Ok(chain.clone()));
    // What is held already changes nothing.
    let before = chain.clone();
    chain.extend(second).unwrap();
    assert_eq!(chain, before);
}

#[test]
fn the_network_id_is_of_the_founding_set_whoever_signed_in_whatever_order() {
    let mut other = SignedSet::propose(founding(&[1, 2, 3]).set().clone()).unwrap();
    [3, 1, 2, 1]
        .iter()
        .for_each(|&number| other.sign(&key(number)));
    assert_eq!(Chain::found(other).unwrap().network(), chain().network());
    let keys = [3, 1, 2].map(key);
    let reached = [3, 1, 2].map(address);
    let authorities: Vec<_> = keys.iter().zip(reached).collect();
    let alone = Chain::founded_by(parameters(), &authorities).unwrap();
    assert_eq!(alone, chain());
    let fewer = Chain::found(founding(&[1, 2])).unwrap();
    assert_ne!(fewer.network(), chain().network());
}

#[test]
fn a_network_is_founded_by_all_its_members_and_nobody_else() {
    let set = founding(&[1, 2, 3]).set().clone();
    let by = |numbers: &[u8]| Chain::found(signed(set.clone(), numbers));
    assert_eq!(by(&[1, 2]), Err(SetError::NewMember));
    assert_eq!(by(&[]), Err(SetError::NewMember));
    assert_eq!(by(&[1, 2, 3, 4]), Err(SetError::Signature));
    let later = signed(next(&chain(), &[1, 2, 3]), &[1, 2, 3]);
    let (generation, held) = (1, 0);
    assert_eq!(
        Chain::found(later),
        Err(SetError::Generation { generation, held })
    );
}

#[test]
fn each_rule_of_a_next_set_is_refused_when_broken() {
    let mut chain = chain();
    let base = next(&chain, &[2, 3, 4]);
    let mut refused = |set: AuthoritySet, by: &[u8]| chain.extend(signed(set, by)).unwrap_err();
    let (valid, quorum) = (1, 2);
    assert_eq!(
        refused(base.clone(), &[3, 4]),
        SetError::Signatures { valid, quorum }
    );
    assert_eq!(refused(base.clone(), &[2, 3]), SetError::NewMember);
    assert_eq!(refused(base.clone(), &[2, 3, 4, 9]), SetError::Signature);
    let skipped = AuthoritySet {
        generation: 2,
        ..base.clone()
    };
    let (generation, held) = (2, 0);
    assert_eq!(
        refused(skipped, &[2, 3, 4]),
        SetError::Generation { generation, held }
    );
    let strange = AuthoritySet {
        network: [9; 16],
        ..base.clone()
    };
    assert_eq!(refused(strange, &[2, 3, 4]), SetError::Network);
    let early = AuthoritySet {
        first_epoch: 0,
        ..base.clone()
    };
    let (first_epoch, held) = (0, 0);
    assert_eq!(
        refused(early, &[2, 3, 4]),
        SetError::FirstEpoch { first_epoch, held }
    );
    let replaced = AuthoritySet {
        members: members(&[4, 5, 6]),
        ..base
    };
    assert_eq!(
        refused(replaced, &[1, 2, 3, 4, 5, 6]),
        SetError::NobodyStays
    );
}

#[test]
fn two_sets_of_one_generation_are_noticed() {
    let mut chain = chain();
    chain
        .extend(signed(next(&chain, &[2, 3, 4]), &[2, 3, 4]))
        .unwrap();
    let other = AuthoritySet {
        members: members(&[1, 2, 5]),
        ..chain.sets()[1].set().clone()
    };
    let refused = chain.extend(signed(other, &[1, 2, 5]));
    assert_eq!(refused, Err(SetError::Equivocation(1)));
}

#[test]
fn a_chain_ends_at_sixty_four_sets() {
    let mut chain = chain();
    for _ in 1..GENERATIONS_MAX {
        chain
            .extend(signed(next(&chain, &[1, 2, 3]), &[1, 2]))
            .unwrap();
    }
    let one_more = signed(next(&chain, &[1, 2, 3]), &[1, 2]);
    assert_eq!(chain.extend(one_more), Err(SetError::TooMany));
    assert_eq!(Chain::decode(&chain.encode()), Ok(chain));
}

#[test]
fn a_chain_altered_in_any_byte_is_refused() {
    let mut chain = chain();
    chain
        .extend(signed(next(&chain, &[2, 3, 4]), &[2, 3, 4]))
        .unwrap();
    let bytes = chain.encode();
    for position in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[position] ^= 1;
        assert!(Chain::decode(&altered).is_err(), "byte {position}");
        assert!(
            Chain::decode(&bytes[..position]).is_err(),
            "{position} bytes"
        );
    }
    assert!(Chain::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn out_of_bounds_sets_can_not_be_proposed() {
    let base = founding(&[1, 2, 3]).set().clone();
    let with = |change: &dyn Fn(&mut AuthoritySet)| {
        let mut set = base.clone();
        change(&mut set);
        SignedSet::propose(set)
    };
    assert!(with(&|_| {}).is_ok());
    assert!(with(&|set| set.members.clear()).is_err());
    assert!(with(&|set| set.members = members(&[1, 2, 3, 4, 5, 6])).is_err());
    assert!(with(&|set| set.members.reverse()).is_err());
    let reached_at = |address: &str| {
        let address = address.parse().unwrap();
        with(&|set| set.members[0].address = address)
    };
    assert!(reached_at("[2001:db8::1]:7070").is_ok());
    for nowhere in [
        "192.0.2.1:0",
        "0.0.0.0:7070",
        "[::]:7070",
        "224.0.0.1:7070",
        "[::ffff:192.0.2.1]:7070",
        "[fe80::1%2]:7070",
    ] {
        assert!(reached_at(nowhere).is_err(), "{nowhere}");
    }
    assert!(with(&|set| set.parameters = None).is_err());
    assert!(with(&|set| set.network = [1; 16]).is_err());
}

#[test]
#[ignore = "writes the committed fuzz corpus"]
fn write_the_fuzz_corpus() {
    let corpus =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/fuzz/corpus/documents");
    let mut chain = chain();
    let second = signed(next(&chain, &[2, 3, 4]), &[2, 3, 4]);
    std::fs::write(corpus.join("authority-set"), second.encode()).unwrap();
    chain.extend(second).unwrap();
    std::fs::write(corpus.join("authority-chain"), chain.encode()).unwrap();
}

#[test]
fn a_set_is_on_one_host_if_all_of_it_is() {
    let of = |addresses: &[&str]| {
        let member = |address: &&str| Member {
            key: [1; 32],
            address: address.parse().unwrap(),
        };
        let set = AuthoritySet {
            network: [0; 16],
            generation: 0,
            first_epoch: 0,
            parameters: None,
            members: addresses.iter().map(member).collect(),
        };
        set.is_on_one_host()
    };
    for here in ["127.0.0.1:7070", "127.10.2.1:7070", "[::1]:7070"] {
        assert!(of(&[here]), "{here}");
    }
    for elsewhere in ["10.0.0.1:7070", "[2001:db8::1]:7070"] {
        assert!(!of(&[elsewhere]), "{elsewhere}");
        assert!(!of(&["127.0.0.1:7070", elsewhere]), "{elsewhere}");
    }
}
