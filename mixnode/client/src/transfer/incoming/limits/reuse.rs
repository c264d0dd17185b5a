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
    // What is forgotten is not used either.
    bob.incoming.tick(bob.now_ns, EPOCH + 2);
    assert!(bob.incoming.storage.remembered(Once::Block).is_empty());
    assert!(bob.incoming.blocks.contains(&Surb::from_bytes(&one)));
}

/// All that a gateway kept of a key request, a session and its packets, and what a correspondent kept of his blocks, come
/// again: at once, after restarts, over turns of epochs, and both.
#[test]
fn attack_nothing_played_again_is_answered_across_restarts_and_turns() {
    let mut bob = Bob::new(19, 1 << 20);
    let mut blocks = Vec::new();
    for _ in 0..40 {
        blocks.push(block(&mut bob));
    }
    let (keys, acks) = blocks.split_at(20);
    let mut kept = Vec::new();
    for pair in keys.chunks(2) {
        let request = Sealed::KeyRequest {
            wanted: 3,
            epoch: EPOCH,
            surbs: pair.to_vec(),
        };
        let sealed = request.seal(bob.identity.x25519(), &mut bob.rng);
        kept.push(sealed.unwrap());
    }
    let mut session = bob.session();
    for half in [0, 1] {
        let sealed = session.half(half).seal(bob.identity.x25519(), &mut bob.rng);
        kept.push(sealed.unwrap());
    }
    for (number, block) in (0..).zip(acks) {
        let block = Field::Surb(Box::new(*block));
        kept.push(packet(
            &mut session,
            &[Field::Manifest(manifest(number, 9_000)), block],
        ));
    }
    let play = |bob: &mut Bob, bodies: &[[u8; BODY_BYTES]]| {
        let mut answers = 0;
        for body in bodies {
            bob.take(body);
            bob.now_ns += PAUSE_NS;
            answers += std::iter::from_fn(|| bob.reply()).count();
        }
        answers
    };
    let first = play(&mut bob, &kept);
    assert_eq!(first, blocks.len(), "each block is good for one answer");
    // The correspondent brings his blocks again in a session of his own, which must be answered by none of them.
    let mut again = 0;
    for (epoch, restarts) in [
        (EPOCH, false),
        (EPOCH, true),
        (EPOCH + 1, false),
        (EPOCH + 1, true),
    ] {
        if restarts {
            bob = restarted(bob, 1 << 20);
        }
        bob.incoming.tick(bob.now_ns, epoch);
        again += play(&mut bob, &kept);
        let mut fresh = bob.session();
        bob.start(&fresh);
        for (number, block) in (0..).zip(&blocks) {
            let block = Field::Surb(Box::new(*block));
            let fields = [Field::Manifest(manifest(number, 9_000)), block];
            again += play(&mut bob, &[packet(&mut fresh, &fields)]);
        }
    }
    println!("{first} answers at first; to all of it again, across restarts and a turn: {again}");
    assert_eq!(again, 0);
}
