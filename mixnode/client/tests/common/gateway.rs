//! The nodes of the network in memory: a gateway's link to its clients, and the way of a packet through the mixes.

use std::net::SocketAddr;

use arrayvec::ArrayVec;
use link::control::{AUTHORITIES, Control, LATEST};
use link::{Arrival, DATAGRAM_BYTES, Datagram, Kind, OpenJob, Response, SealJob};
use rand_core::Rng;
use sphinx::{Command, Job, PACKET_BYTES};

use super::{Boxed, Happening, LINK_DELAY_NS, Network, QUEUE_MAX, Stall};

impl Network {
    pub(super) fn enqueue(
        &mut self,
        gateway: &[u8; 32],
        destination: &[u8; 16],
        kind: Kind,
        content: Box<[u8; 1200]>,
    ) -> bool {
        let gateway = self.gateways.get_mut(gateway).unwrap();
        if !gateway.attached.contains_key(destination) {
            return false;
        }
        let queue = gateway.queues.entry(*destination).or_default();
        if queue.len() >= QUEUE_MAX {
            return false;
        }
        queue.push_back(content);
        let kinds = gateway.kinds.entry(*destination).or_default();
        kinds.push_back(kind);
        true
    }

    fn down_the_link(&mut self, seat: usize, datagram: Boxed) {
        for _ in 0..1 + usize::from(self.chance(self.conditions.duplicates)) {
            if !self.chance(self.conditions.loss) {
                let at = self.now_ns + LINK_DELAY_NS;
                self.push(at, Happening::ToClient(seat, datagram.clone()));
            }
        }
    }

    /// The epoch of the gateways' clock, as their frames carry it.
    fn epoch_bits(&self) -> u8 {
        (self.authority.parameters().epoch_at(self.unix_ms()) % 4) as u8
    }

    /// One slot of the gateway's Poisson stream to a client.
    pub(super) fn down_slot(&mut self, identity: &[u8; 32], destination: &[u8; 16], index: u32) {
        let gateway = self.gateways.get_mut(identity).unwrap();
        let Some((attached, rate_pps)) = gateway.attached.get(destination).copied() else {
            return;
        };
        if attached != index || self.silent.contains(identity) {
            return;
        }
        let now = self.epoch_bits();
        let gateway = self.gateways.get_mut(identity).unwrap();
        let next = gateway.queues.entry(*destination).or_default().pop_front();
        let kind = gateway.kinds.entry(*destination).or_default().pop_front();
        let content = next.unwrap_or_else(|| Box::new([0; 1200]));
        let (session, seat) = gateway.sessions.get_mut(&index).unwrap();
        let seat = *seat;
        let mut datagram = Box::new([0; DATAGRAM_BYTES]);
        datagram[link::CONTENT_OFFSET..link::CONTENT_OFFSET + 1200].copy_from_slice(&content[..]);
        let counter = session.send.next_counter().unwrap();
        link::seal_batch(&mut [SealJob {
            session: session.send.key(),
            counter,
            kind: kind.unwrap_or(Kind::Cover),
            epoch: now,
            datagram: &mut datagram,
        }]);
        self.down_the_link(seat, datagram);
        let uniform = ((self.rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let gap_ns = (-uniform.ln() * 1e9 / f64::from(rate_pps)) as u64;
        self.push(
            self.now_ns + gap_ns,
            Happening::Down(*identity, *destination, index),
        );
    }

    pub(super) fn at_gateway(&mut self, identity: &[u8; 32], seat: usize, mut datagram: Boxed) {
        self.initiations += u64::from(datagram[0] == 1);
        if self.silent.contains(identity) {
            return;
        }
        let now_ns = self.now_ns;
        let gateway = self.gateways.get_mut(identity).unwrap();
        match link::peek(&datagram[..]).unwrap() {
            Datagram::Initiation { .. } => {
                self.sessions += 1;
                let arrival = Arrival {
                    source: SocketAddr::from(([10, 9, 9, 9], 1_000 + seat as u16)),
                    now_ns,
                };
                let index = self.sessions;
                let responder = &mut gateway.responder;
                match responder.respond(&datagram, &arrival, index, |_| true, &mut self.rng) {
                    Ok(Response::Accepted { reply, session }) => {
                        gateway.sessions.insert(index, (*session, seat));
                        self.down_the_link(seat, reply);
                    }
                    Ok(Response::Cookie { reply }) => self.down_the_link(seat, reply),
                    Err(_) => {}
                }
            }
            Datagram::Data {
                receiver_index,
                counter,
            } => {
                let Some((session, _)) = gateway.sessions.get_mut(&receiver_index) else {
                    return;
                };
                if session.receive.check(counter).is_err() {
                    return;
                }
                let mut verdicts = ArrayVec::new();
                let job = OpenJob {
                    session: session.receive.key(),
                    datagram: &mut datagram,
                };
                link::open_batch(&mut [job], &mut verdicts);
                let opened = verdicts[0].expect("frames are not forged here");
                session.receive.admit(opened.counter).unwrap();
                let destination = link::destination_tag(&session.peer);
                let content: [u8; 1200] = *datagram[link::CONTENT_OFFSET..].first_chunk().unwrap();
                if opened.kind == Kind::Sphinx {
                    let turns = &mut self.seats[seat].turns;
                    if turns.last().is_none_or(|(_, of)| *of != opened.epoch) {
                        turns.push((now_ns, opened.epoch));
                    }
                }
                match opened.kind {
                    Kind::Sphinx => {
                        *self.packets.entry(*identity).or_default() += 1;
                        self.mix((identity, seat), opened.epoch, content);
                    }
                    Kind::Control => self.control(identity, destination, receiver_index, &content),
                    Kind::Delivery | Kind::Cover => {}
                }
            }
            other => panic!("a client sent {other:?}"),
        }
    }

    fn control(
        &mut self,
        identity: &[u8; 32],
        destination: [u8; 16],
        index: u32,
        content: &[u8; 1200],
    ) {
        let now = self.authority.parameters().epoch_at(self.unix_ms());
        let answer = match Control::decode(content).expect("a client's control frames are sound") {
            Control::Attach { rate_pps } => {
                *self.attaches.entry(*identity).or_default() += 1;
                if self.full.contains(identity) {
                    return self.answer(identity, index, &Control::Full);
                }
                let rate_pps = rate_pps.min(self.grants_pps);
                let gateway = self.gateways.get_mut(identity).unwrap();
                let known = gateway.attached.insert(destination, (index, rate_pps));
                if known.is_none_or(|(attached, _)| attached != index) {
                    self.push(
                        self.now_ns + 1,
                        Happening::Down(*identity, destination, index),
                    );
                }
                Control::Attached { rate_pps }
            }
            Control::Fetch {
                epoch: AUTHORITIES,
                chunk,
            } => Control::chunk_of(AUTHORITIES, &self.handed_chain, chunk),
            Control::Fetch { epoch, chunk } => {
                *self.fetched.entry(*identity).or_default() += 1;
                // As a node's: the epoch before, this one, and from the middle of it on the next.
                let middle =
                    self.authority.parameters().epoch_starts_ms(now) + self.conditions.epoch_ms / 2;
                let newest = now + u32::from(self.unix_ms() >= middle);
                let epoch = if epoch == LATEST { newest } else { epoch };
                let kept = (now.saturating_sub(1)..=newest).contains(&epoch);
                let stalls =
                    |(who, from, _): &&([u8; 32], u32, Stall)| who == identity && epoch >= *from;
                let stall = self.stalls.iter().find(stalls).map(|(_, _, how)| *how);
                if matches!(
                    (stall, chunk),
                    (Some(Stall::Silent), _) | (Some(Stall::Endless), 0)
                ) {
                    return;
                }
                let withholds = |(who, from): &([u8; 32], u32)| who == identity && epoch >= *from;
                let withheld = self.withholds.iter().any(withholds);
                if kept && !withheld && self.missing != Some(epoch) {
                    let (_, mut document) = self.consensus(epoch);
                    if matches!(stall, Some(Stall::Forged)) {
                        document.fill(7);
                    }
                    Control::chunk_of(epoch, &document, chunk)
                } else {
                    Control::chunk_of(epoch, &[], chunk)
                }
            }
            other => panic!("a client sent {other:?}"),
        };
        let mut content = Box::new([0; 1200]);
        answer.encode(&mut content);
        self.enqueue(identity, &destination, Kind::Control, content);
    }

    /// Sends a control frame at once, to a session that need not be attached.
    pub fn answer(&mut self, identity: &[u8; 32], index: u32, control: &Control) {
        let now = self.epoch_bits();
        let gateway = self.gateways.get_mut(identity).unwrap();
        let (session, seat) = gateway.sessions.get_mut(&index).unwrap();
        let (seat, mut datagram) = (*seat, Box::new([0; DATAGRAM_BYTES]));
        let content = datagram[link::CONTENT_OFFSET..].first_chunk_mut().unwrap();
        control.encode(content);
        let counter = session.send.next_counter().unwrap();
        link::seal_batch(&mut [SealJob {
            session: session.send.key(),
            counter,
            kind: Kind::Control,
            epoch: now,
            datagram: &mut datagram,
        }]);
        self.down_the_link(seat, datagram);
    }

    /// Mailboxes that were ever attached to a gateway.
    #[allow(dead_code)] // Not every test file that shares this module needs it.
    pub fn mailboxes(&self, gateway: usize) -> usize {
        self.gateways[&self.gateway(gateway)].attached.len()
    }

    /// A gateway says something to a client that is attached to it.
    #[allow(dead_code)] // Not every test file that shares this module needs it.
    pub fn says(&mut self, gateway: usize, mailbox: &link::ClientKeys, control: &Control) {
        let identity = self.gateway(gateway);
        let destination = link::destination_tag(mailbox.public_key());
        let (index, _) = self.gateways[&identity].attached[&destination];
        self.answer(&identity, index, control);
    }

    /// Takes a packet through all its hops at once; what it becomes happens after the sum of its delays.
    fn mix(
        &mut self,
        (entry, seat): (&[u8; 32], usize),
        epoch_bits: u8,
        mut packet: [u8; PACKET_BYTES],
    ) {
        let now = self.authority.parameters().epoch_at(self.unix_ms());
        let Some(epoch) = [Some(now), now.checked_sub(1)]
            .into_iter()
            .flatten()
            .find(|epoch| epoch % 4 == u32::from(epoch_bits))
        else {
            panic!("a client sent a packet of a dead epoch");
        };
        if epoch != now {
            *self.old_packets.entry(*entry).or_default() += 1;
        }
        let (consensus, _) = self.consensus(epoch);
        let mut node = *entry;
        let mut delay_ns = 0;
        loop {
            if self.dead.contains(&node) {
                return;
            }
            let secret = &self.secrets[&(node, epoch)];
            let mut verdicts = ArrayVec::new();
            let mut jobs = [Job {
                packet: &mut packet,
                secret,
            }];
            self.engine
                .unwrap_batch(&mut jobs, &mut |_, _| Ok(()), &mut verdicts);
            let unwrapped = verdicts[0].expect("a client's packets are sound");
            delay_ns += u64::from(unwrapped.delay_us) * 1_000 + LINK_DELAY_NS;
            match unwrapped.command {
                Command::Forward { next } => {
                    let from = consensus.find(&node).unwrap().layer;
                    assert!(consensus.may_forward(from, next), "the layer graph");
                    if self.chance(self.conditions.loss) {
                        return;
                    }
                    node = consensus.node(next).unwrap().identity;
                }
                Command::Deliver { destination, id } => {
                    *self.mailed.entry((seat, destination)).or_default() += 1;
                    let mut content = Box::new([0; 1200]);
                    content[..8].copy_from_slice(&id);
                    content[8..904].copy_from_slice(&packet[sphinx::HEADER_BYTES..]);
                    let at = self.now_ns + delay_ns;
                    self.push(at, Happening::Deliver(node, destination, content));
                    return;
                }
                Command::Loop { .. } | Command::Drop => return,
            }
        }
    }
}
