//! Reply blocks that come more than once.

use super::*;

/// The same header with another key for the replier.
fn with_another_key(block: &[u8; SURB_BYTES]) -> [u8; SURB_BYTES] {
    let mut other = *block;
    other[SURB_BYTES - 1] ^= 1;
    other
}

/// A block that can be used now.
fn block(bob: &mut Bob) -> [u8; SURB_BYTES] {
    let mut block = bob.surb();
    block[..4].copy_from_slice(&EPOCH.to_le_bytes());
    block
}

#[test]
fn attack_a_reply_block_in_several_requests_makes_one_packet() {
    let mut bob = Bob::new(18, 1 << 20);
    let one = block(&mut bob);
    let again = with_another_key(&one);
    for surbs in [vec![one, one], vec![again], vec![one, again]] {
        let wanted = if surbs.len() == 2 { 3 } else { 1 };
        bob.take_sealed(&Sealed::KeyRequest {
            wanted,
            epoch: EPOCH,
            surbs,
        });
    }
    let keys = std::iter::from_fn(|| bob.reply()).count();
    let mut answers = 0;
    for number in 0..3 {
        let mut session = bob.session();
        bob.start(&session);
        for _ in 0..3 {
            let surbs = [one, again].map(|block| Field::Surb(Box::new(block)));
            let mut fields = vec![Field::Manifest(manifest(number, 9_000))];
            fields.extend(surbs);
            bob.take(&packet(&mut session, &fields));
            bob.now_ns += PAUSE_NS;
            answers += usize::from(bob.reply().is_some());
        }
        // What is good beside it is used.
        let good = Field::Surb(Box::new(block(&mut bob)));
        bob.take(&packet(&mut session, &[good]));
        bob.now_ns += PAUSE_NS;
        assert!(bob.reply().is_some(), "session {number}");
    }
    println!("one reply block in 3 key requests and 9 packets: {keys} keys, {answers} answers");
    assert_eq!((keys, answers), (1, 0));
    bob.incoming.tick(bob.now_ns, EPOCH + 1);
    assert!(bob.incoming.blocks.contains(&Surb::from_bytes(&one)));
    bob.incoming.tick(bob.now_ns, EPOCH + 2);
    assert!(!bob.incoming.blocks.contains(&Surb::from_bytes(&one)));
}
