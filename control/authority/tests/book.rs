//! Which descriptors an authority takes, and its word for those that it does not.

mod network;

use std::collections::BTreeMap;

use authority::admission::{Admission, Admitted, Refusal, cause};
use authority::book::{Book, DescriptorRefusal, Hour};
use directory::{Chain, Identity, NODES_MAX, Previous, Role, SignedDescriptor};
use network::{Member, PARAMETERS, authority, node};

const HOUR: Hour = Hour {
    now: 4,
    target: 5,
    unix_ms: 1_000_000,
    epoch_ms: PARAMETERS.epoch_ms,
};

/// What `member` says at `published_ms`, with keys from `epoch` on.
fn says(member: &Member, epoch: u32, published_ms: u64) -> SignedDescriptor {
    let mut member = member.clone();
    member.published_unix_ms = published_ms;
    member.signed(epoch, &Previous::default())
}

fn taken(book: &mut Book, admission: &Admission, bytes: &[u8], hour: Hour) -> Result<(), String> {
    book.take(bytes, authority().chain(), admission, hour)
        .map_err(|refusal| refusal.to_string())
}

fn open(book: &mut Book, descriptor: &SignedDescriptor, hour: Hour) -> Result<(), String> {
    taken(book, &Admission::Open, descriptor.bytes(), hour)
}

fn refused(word: &str) -> Result<(), String> {
    Err(word.to_owned())
}

#[test]
fn each_refusal_has_its_word() {
    let member = node(1, Role::Mix);
    let now_ms = HOUR.unix_ms;
    let good = says(&member, 5, now_ms);
    let mut book = Book::default();
    let mut try_bytes = |bytes: &[u8]| taken(&mut book, &Admission::Open, bytes, HOUR);
    assert_eq!(try_bytes(&[0; 5_000]), refused("too-large"));
    assert_eq!(try_bytes(&good.bytes()[..40]), refused("malformed"));
    let mut flipped = good.bytes().to_vec();
    flipped[300] ^= 1;
    assert_eq!(try_bytes(&flipped), refused("signature"));
    for length in (0..good.bytes().len()).step_by(61) {
        assert!(try_bytes(&good.bytes()[..length]).is_err(), "{length}");
    }
    let mut strange = member.clone();
    strange.network = [9; 16];
    assert_eq!(
        try_bytes(says(&strange, 5, now_ms).bytes()),
        refused("network")
    );
    assert_eq!(
        try_bytes(says(&member, 6, now_ms).bytes()),
        refused("epoch")
    );
    let far_ms = 2 * HOUR.epoch_ms + 1;
    for published_ms in [now_ms - far_ms, now_ms + far_ms] {
        assert_eq!(
            try_bytes(says(&member, 5, published_ms).bytes()),
            refused("stale")
        );
    }
    assert_eq!(try_bytes(good.bytes()), Ok(()));
    // The same again is no news and no fault; what is older than it is one.
    assert_eq!(try_bytes(good.bytes()), Ok(()));
    assert_eq!(
        try_bytes(says(&member, 5, now_ms - 1).bytes()),
        refused("stale")
    );
}

#[test]
fn who_is_not_on_the_list_is_refused_before_a_signature_is_looked_at() {
    let (known, unknown) = (node(1, Role::Mix), node(2, Role::Mix));
    let admitted = |role, operator: &str| Admitted {
        role,
        operator: operator.to_owned(),
        weight_max: 10,
        paused: false,
    };
    let list = |admitted| Admission::List(BTreeMap::from([(known.identity.public(), admitted)]));
    let mut book = Book::default();
    let mut unsigned = says(&unknown, 5, HOUR.unix_ms).bytes().to_vec();
    unsigned[300] ^= 1;
    let right = list(admitted(Role::Mix, "operator-1"));
    assert_eq!(
        taken(&mut book, &right, &unsigned, HOUR),
        refused("unknown-node")
    );
    let bytes = says(&known, 5, HOUR.unix_ms).bytes().to_vec();
    for wrong in [
        admitted(Role::Gateway, "operator-1"),
        admitted(Role::Mix, "operator-2"),
    ] {
        assert_eq!(
            taken(&mut book, &list(wrong), &bytes, HOUR),
            refused("admission")
        );
    }
    // Operators are told what stands behind such a word.
    for why in [Refusal::Unknown, Refusal::Admission, Refusal::Address] {
        assert!(cause(&why.to_string()).is_some(), "{why}");
    }
    for why in [DescriptorRefusal::Stale, DescriptorRefusal::Prefix] {
        assert!(cause(&why.to_string()).is_some(), "{why}");
    }
    assert_eq!(taken(&mut book, &right, &bytes, HOUR), Ok(()));
    assert_eq!(book.of_epoch(5).count(), 1);
    // Taken off the list, it is forgotten.
    book.forget(5, &Admission::List(BTreeMap::new()));
    assert_eq!(book.of_epoch(5).count(), 0);
}

#[test]
fn an_identity_brings_four_new_ones_an_epoch_and_the_newest_counts() {
    let member = node(1, Role::Mix);
    let mut book = Book::default();
    let mut last = [0; 32];
    for later_ms in 0..4 {
        let descriptor = says(&member, 5, HOUR.unix_ms + later_ms);
        assert_eq!(open(&mut book, &descriptor, HOUR), Ok(()));
        last = descriptor.digest();
    }
    let fifth = says(&member, 5, HOUR.unix_ms + 4);
    assert_eq!(open(&mut book, &fifth, HOUR), refused("too-many"));
    let held: Vec<_> = book.of_epoch(5).map(SignedDescriptor::digest).collect();
    assert_eq!(held, [last]);
    let next = Hour {
        now: 5,
        target: 6,
        ..HOUR
    };
    assert_eq!(
        open(&mut book, &says(&member, 6, HOUR.unix_ms + 5), next),
        Ok(())
    );
}

#[test]
fn what_comes_late_waits_for_the_document_after_the_next() {
    let member = node(1, Role::Mix);
    let mut book = Book::default();
    let early = says(&member, 5, HOUR.unix_ms);
    assert_eq!(open(&mut book, &early, HOUR), Ok(()));
    let late = says(&member, 5, HOUR.unix_ms + 1);
    let hour = Hour { target: 6, ..HOUR };
    assert_eq!(open(&mut book, &late, hour), Ok(()));
    let of = |book: &Book, epoch| book.of_epoch(epoch).map(SignedDescriptor::digest).next();
    assert_eq!(of(&book, 5), Some(early.digest()));
    assert_eq!(of(&book, 6), Some(late.digest()));
    for held in [&early, &late] {
        assert_eq!(book.by_digest(&held.digest()), Some(held));
    }
    // Without a key that lives it is of no use to anybody.
    book.forget(6, &Admission::Open);
    assert!(of(&book, 6).is_some());
    book.forget(7, &Admission::Open);
    assert!(of(&book, 6).is_none() && book.by_digest(&late.digest()).is_none());
}

#[test]
fn where_everyone_is_let_in_a_prefix_has_four_and_the_network_its_limit() {
    let mut book = Book::default();
    let in_prefix = |number: u16, prefix: u16| {
        let mut member = node(number, Role::Mix);
        let [high, low] = prefix.to_be_bytes();
        let host = u8::try_from(number % 250).unwrap();
        member.addresses = vec![([10, high, low, host], 9_000).into()];
        says(&member, 5, HOUR.unix_ms)
    };
    for number in 0..4 {
        assert_eq!(open(&mut book, &in_prefix(number, 0), HOUR), Ok(()));
    }
    assert_eq!(open(&mut book, &in_prefix(4, 0), HOUR), refused("prefix"));
    let most = u16::try_from(NODES_MAX).unwrap();
    for number in 5..=most {
        assert_eq!(
            open(&mut book, &in_prefix(number, 1 + number / 4), HOUR),
            Ok(())
        );
    }
    assert_eq!(
        open(&mut book, &in_prefix(most + 1, 9_999), HOUR),
        refused("full")
    );
}

#[test]
fn an_address_that_is_another_host_to_everyone_is_taken_in_a_network_on_one_host_alone() {
    let chain = |address: &str| {
        let key = Identity::from_bytes(&[7; 32]);
        Chain::founded_by(PARAMETERS, &[(&key, address.parse().unwrap())]).unwrap()
    };
    let took = |chain: &Chain, address: &str| {
        let mut member = node(1, Role::Mix);
        member.network = *chain.network();
        member.addresses = vec![address.parse().unwrap()];
        let bytes = says(&member, 5, HOUR.unix_ms).bytes().to_vec();
        let taken = Book::default().take(&bytes, chain, &Admission::Open, HOUR);
        taken.map_err(|refusal| refusal.to_string())
    };
    let (world, here) = (chain("192.0.2.1:7070"), chain("127.0.0.1:7070"));
    for address in [
        "127.0.0.1:9000",
        "127.20.3.1:9000",
        "169.254.1.1:9000",
        "0.1.2.3:9000",
        "[::1]:9000",
        "[fe80::1]:9000",
    ] {
        assert_eq!(took(&world, address), refused("address"), "{address}");
        assert_eq!(took(&here, address), Ok(()), "{address}");
    }
    // What a company routes itself, or a laboratory in namespaces, is its own business.
    for address in ["10.0.0.1:9000", "203.0.113.9:9000", "[2001:db8::1]:9000"] {
        assert_eq!(took(&world, address), Ok(()), "{address}");
    }
}
