//! Packets and replies over paths of every length come out as they went in.

mod common;

use common::{DELAY_MAX_US, Network, body, open_one, rng};
use sphinx::{
    Command, HOPS_MAX, PACKET_BYTES, REPLY_BYTES, Terminal, surb_create, surb_open, surb_use, wrap,
};

#[test]
fn a_forward_packet_of_one_to_five_hops_delivers_its_body() {
    for hops in 1..=HOPS_MAX {
        let network = Network::new(hops, &mut rng(hops as u64));
        let terminal = Terminal::Deliver {
            destination: [7; 16],
            id: [9; 8],
        };
        let mut packet = [0; PACKET_BYTES];
        wrap(&mut rng(1), &network.path, &terminal, &body(3), &mut packet).unwrap();
        for index in 0..hops - 1 {
            let opened = open_one(&mut packet, &network.secrets[index]).unwrap();
            assert_eq!(
                opened.command,
                Command::Forward {
                    next: network.path[index + 1].node
                }
            );
            assert_eq!(opened.delay_us, network.path[index].delay_us);
        }
        let opened = open_one(&mut packet, &network.secrets[hops - 1]).unwrap();
        assert_eq!(
            opened.command,
            Command::Deliver {
                destination: [7; 16],
                id: [9; 8]
            }
        );
        assert_eq!(opened.delay_us, network.path[hops - 1].delay_us);
        assert_eq!(packet[304..], body(3));
    }
}

#[test]
fn a_reply_of_one_to_five_hops_reaches_the_creator_of_the_reply_block() {
    for hops in 1..=HOPS_MAX {
        let network = Network::new(hops, &mut rng(hops as u64));
        let (surb, secret) = surb_create(&mut rng(2), &network.path, 77, [5; 16], [6; 8]).unwrap();
        assert_eq!(surb.epoch(), 77);
        assert_eq!(surb.first_hop(), network.path[0].node);
        let mut plaintext = [0; REPLY_BYTES];
        plaintext.copy_from_slice(&body(4)[..REPLY_BYTES]);
        let mut packet = [0; PACKET_BYTES];
        surb_use(&surb, &plaintext, &mut packet);
        for (index, hop) in network.secrets[..hops - 1].iter().enumerate() {
            let opened = open_one(&mut packet, hop).unwrap();
            assert_eq!(
                opened.command,
                Command::Forward {
                    next: network.path[index + 1].node
                }
            );
        }
        let opened = open_one(&mut packet, &network.secrets[hops - 1]).unwrap();
        assert_eq!(
            opened.command,
            Command::Deliver {
                destination: [5; 16],
                id: [6; 8]
            }
        );
        let mut delivered = packet[304..].try_into().unwrap();
        assert_eq!(surb_open(&secret, &mut delivered).unwrap(), plaintext);
    }
}

#[test]
fn loops_and_cover_are_recognised_by_the_node_that_ends_them() {
    for (terminal, command) in [
        (Terminal::Loop { id: [4; 8] }, Command::Loop { id: [4; 8] }),
        (Terminal::Drop, Command::Drop),
    ] {
        let network = Network::new(4, &mut rng(8));
        let mut content = body(5);
        content[..16].fill(0);
        let mut packet = [0; PACKET_BYTES];
        wrap(&mut rng(9), &network.path, &terminal, &content, &mut packet).unwrap();
        for secret in &network.secrets[..3] {
            assert!(matches!(
                open_one(&mut packet, secret).unwrap().command,
                Command::Forward { .. }
            ));
        }
        assert_eq!(
            open_one(&mut packet, &network.secrets[3]).unwrap().command,
            command
        );
        assert_eq!(packet[304..], content);
    }
}

#[test]
fn the_delay_a_sender_chose_is_the_delay_a_hop_is_given_up_to_the_bound() {
    for delay_us in [0, 1, 65_536, DELAY_MAX_US] {
        let mut network = Network::new(2, &mut rng(10));
        network.path[0].delay_us = delay_us;
        let mut packet = [0; PACKET_BYTES];
        wrap(
            &mut rng(11),
            &network.path,
            &Terminal::Drop,
            &[0; 896],
            &mut packet,
        )
        .unwrap();
        assert_eq!(
            open_one(&mut packet, &network.secrets[0]).unwrap().delay_us,
            delay_us
        );
    }
}
