//! What is granted: frames of the pool to their holders, and to each client its rate.
//!
//! The pool of a worker is a sum over its holders: packets in the wheel, deliveries queued for clients, and what is in
//! the port's rings or between two stages. Each has its part and gets no more, so that queued deliveries can't keep
//! packets out, nor held packets deliveries, nor both of them what arrives.

/// Frames in the port's rings and between stages, at most; a small pool keeps one part in [`RINGS_PART`] for them.
pub const RING_FRAMES: u32 = 2_048;
const RINGS_PART: u32 = 8;
/// One neighbour may hold one part in this many of the wheel at least.
const NEIGHBOUR_PART: u32 = 4;
/// Tokens that a client may save up, unless a second's worth is more.
const DEPTH_MIN: u32 = 64;
/// A node may send one part in this many of the node's capacity at least, and always so many packets a second.
const NODE_PART: u32 = 4;
const NODE_PPS_MIN: u32 = 1_000;
/// Part of a second's packets that a node may save up, and the least of them: what its threads, and this node's own, hold
/// back while others run. Honest traffic must not be refused after a stall.
const NODE_DEPTH_PART: u32 = 5;
const NODE_DEPTH_MIN: u32 = 512;
/// Rate of a client that is not attached, packets a second: nothing was granted to it.
const UNGRANTED_PPS: u32 = 1;
/// Frames of the wheel that a client may have beside twice what its rate and the mean delay make.
const CLIENT_FRAMES: u32 = 32;
const TOKEN: u64 = 1_000_000_000;
/// Tokens that only control frames may take of who is not attached.
pub const TOKENS_TO_ATTACH: u64 = 8;

/// A worker's pool by holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Packets that wait for their time.
    pub wheel_frames: u32,
    /// Deliveries that wait for slots of their clients' streams.
    pub queue_frames: u32,
    /// Everything else: the port's rings, what is between two stages.
    pub ring_frames: u32,
}

impl Budget {
    /// Divides a pool. Queues get what all clients' full ones take, but never more than half.
    pub fn of(pool_frames: u32, clients_max: u16, client_queue_frames: usize) -> Budget {
        let queues = queues(clients_max, client_queue_frames);
        let queue_frames = (pool_frames / 2).min(u32::try_from(queues).unwrap_or(u32::MAX));
        let ring_frames = RING_FRAMES.min(pool_frames / RINGS_PART);
        Budget {
            wheel_frames: pool_frames - queue_frames - ring_frames,
            queue_frames,
            ring_frames,
        }
    }

    /// Frames of the wheel that a node may hold which brings so many thousandths of the traffic of its layer: a
    /// quarter, or one and a half times its share where that is more (of three gateways each brings a third).
    pub fn node_share(&self, layer_permille: u32) -> u32 {
        let fair = u64::from(self.wheel_frames) * u64::from(layer_permille) * 3 / 2 / 1_000;
        let fair = u32::try_from(fair).unwrap_or(u32::MAX);
        fair.max(self.wheel_frames / NEIGHBOUR_PART)
            .clamp(1, self.wheel_frames.max(1))
    }

    /// Frames of the wheel that a client may hold which was granted `rate_pps`: what its rate and the mean delay make,
    /// twice, and a few.
    pub fn client_share(&self, rate_pps: u32, mean_delay_us: u32) -> u32 {
        let held = u64::from(rate_pps) * u64::from(mean_delay_us) / 1_000_000;
        let share = u32::try_from(2 * held).unwrap_or(u32::MAX);
        share
            .saturating_add(CLIENT_FRAMES)
            .min(self.wheel_frames / NEIGHBOUR_PART)
            .max(1)
    }
}

/// Frames that all clients' full queues take.
pub fn queues(clients_max: u16, client_queue_frames: usize) -> u64 {
    u64::from(clients_max).saturating_mul(client_queue_frames as u64)
}

/// Packets a second that a worker takes from a node which brings so many thousandths of the traffic of its layer, at a node
/// of this capacity: a quarter, or one and a half times its share where that is more.
pub fn node_pps(capacity_pps: u32, layer_permille: u32) -> u32 {
    let fair = u64::from(capacity_pps) * u64::from(layer_permille) * 3 / 2 / 1_000;
    u32::try_from(fair)
        .unwrap_or(u32::MAX)
        .max(capacity_pps / NODE_PART)
        .max(NODE_PPS_MIN)
}

/// A token bucket: a frame costs a token, and tokens come at the granted rate. It belongs to a key, so that a new session
/// fills nothing up, and frames take from it once they are authentic, so that nobody spends another's.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate_pps: u32,
    /// Tokens that may be saved up.
    depth: u32,
    /// In billionths of a token.
    tokens: u64,
    filled_ns: u64,
}

impl Bucket {
    /// The bucket of a client to which nothing was granted yet, full.
    pub fn new() -> Bucket {
        Bucket {
            rate_pps: UNGRANTED_PPS,
            depth: DEPTH_MIN,
            tokens: u64::from(DEPTH_MIN) * TOKEN,
            filled_ns: 0,
        }
    }

    /// The bucket of a node that may send so many packets a second, full.
    pub fn of_node(rate_pps: u32) -> Bucket {
        let depth = (rate_pps / NODE_DEPTH_PART).max(NODE_DEPTH_MIN);
        Bucket {
            rate_pps,
            depth,
            tokens: u64::from(depth) * TOKEN,
            filled_ns: 0,
        }
    }

    /// From now on tokens come at this rate.
    pub fn grant(&mut self, rate_pps: u32, now_ns: u64) {
        self.fill(now_ns);
        self.rate_pps = rate_pps.max(UNGRANTED_PPS);
        self.depth = self.rate_pps.max(DEPTH_MIN);
    }

    /// From now on tokens come as before there was a grant.
    pub fn revoke(&mut self, now_ns: u64) {
        self.grant(UNGRANTED_PPS, now_ns);
    }

    /// The granted rate, packets a second.
    pub fn rate_pps(&self) -> u32 {
        self.rate_pps
    }

    /// Takes a token and leaves `kept` of them; `false` if there are too few.
    pub fn take(&mut self, now_ns: u64, kept: u64) -> bool {
        self.fill(now_ns);
        match self.tokens.checked_sub(TOKEN) {
            Some(left) if left >= kept * TOKEN => {
                self.tokens = left;
                true
            }
            _ => false,
        }
    }

    /// Whether there is a token to take.
    pub fn has_token(&self, now_ns: u64) -> bool {
        self.tokens.saturating_add(self.came(now_ns)) >= TOKEN
    }

    fn came(&self, now_ns: u64) -> u64 {
        let since_ns = now_ns.saturating_sub(self.filled_ns);
        since_ns.saturating_mul(self.rate_pps.into())
    }

    fn fill(&mut self, now_ns: u64) {
        let most = u64::from(self.depth) * TOKEN;
        self.tokens = self.tokens.saturating_add(self.came(now_ns)).min(most);
        self.filled_ns = self.filled_ns.max(now_ns);
    }
}

impl Default for Bucket {
    fn default() -> Bucket {
        Bucket::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_the_sum_of_its_holders() {
        for (pool, clients, queue) in [
            (64, 32, 64),
            (512, 0, 64),
            (1 << 20, 256, 64),
            (3_548, 16_384, 65_536),
            (1, 1, 1),
        ] {
            let budget = Budget::of(pool, clients, queue);
            let sum = budget.wheel_frames + budget.queue_frames + budget.ring_frames;
            assert_eq!(sum, pool);
            assert!(budget.queue_frames <= pool / 2);
            assert!(budget.wheel_frames >= pool / 4);
        }
        assert_eq!(
            Budget::of(512, 0, 64).queue_frames,
            0,
            "a mix has no clients"
        );
    }

    #[test]
    fn a_node_of_a_thin_layer_holds_its_share_and_a_client_never_a_nodes() {
        let budget = Budget::of(4_096, 0, 0);
        let wheel = budget.wheel_frames;
        assert_eq!(budget.node_share(10), wheel / 4);
        assert_eq!(budget.node_share(333), wheel * 333 * 3 / 2_000);
        assert_eq!(budget.node_share(1_000), wheel);
        assert_eq!(budget.client_share(250, 100_000), 82);
        assert_eq!(budget.client_share(1, 100_000), 32);
        assert_eq!(budget.client_share(u32::MAX, u32::MAX), wheel / 4);
    }

    #[test]
    fn a_bucket_lets_its_rate_through_and_a_second_or_64_at_once() {
        for (rate, depth) in [(1, 64), (250, 250)] {
            let mut bucket = Bucket::new();
            bucket.grant(rate, 0);
            let at_once = |bucket: &mut Bucket, now_ns| {
                (0..10_000).filter(|_| bucket.take(now_ns, 0)).count()
            };
            let start_ns = 1_000 * TOKEN;
            assert_eq!(at_once(&mut bucket, start_ns), depth);
            let over_time: usize = (1..=100)
                .map(|tenth| at_once(&mut bucket, start_ns + tenth * TOKEN / 10))
                .sum();
            assert_eq!(over_time, 10 * rate as usize);
        }
        let mut bucket = Bucket::new();
        while bucket.take(0, 0) {}
        bucket.grant(250, 0);
        assert!(!bucket.take(0, 0), "a grant fills nothing");
    }

    #[test]
    fn a_node_may_send_a_quarter_or_more_than_its_share_and_save_a_fifth_of_a_second_up() {
        assert_eq!(node_pps(100_000, 10), 25_000);
        assert_eq!(node_pps(100_000, 333), 49_950);
        assert_eq!(node_pps(100, 1_000), NODE_PPS_MIN);
        assert_eq!(node_pps(u32::MAX, 1_000), u32::MAX);
        for (rate, depth) in [(1_000, 512), (25_000, 5_000)] {
            let mut bucket = Bucket::of_node(rate);
            let start_ns = 1_000 * TOKEN;
            let at_once = |bucket: &mut Bucket, now_ns| {
                (0..100_000).filter(|_| bucket.take(now_ns, 0)).count()
            };
            assert!(bucket.has_token(start_ns));
            assert_eq!(at_once(&mut bucket, start_ns), depth);
            assert!(!bucket.has_token(start_ns));
            assert!(bucket.has_token(start_ns + TOKEN.div_ceil(rate.into())));
            let over_time: usize = (1..=100)
                .map(|tenth| at_once(&mut bucket, start_ns + tenth * TOKEN / 10))
                .sum();
            assert_eq!(over_time, 10 * rate as usize);
        }
    }

    #[test]
    fn frames_of_who_is_not_attached_leave_tokens_for_the_attach_frame() {
        let mut bucket = Bucket::new();
        let mut packets = 0;
        // A second at 250 a second, as slots come.
        for slot in 0..250 {
            packets += u64::from(bucket.take(slot * 4_000_000, TOKENS_TO_ATTACH));
        }
        assert_eq!(packets, u64::from(DEPTH_MIN) - TOKENS_TO_ATTACH);
        for _ in 0..TOKENS_TO_ATTACH {
            assert!(bucket.take(TOKEN, 0));
        }
        // Whatever else is sent, one attach frame a second gets through.
        for second in 2..10 {
            for slot in 0..250 {
                assert!(!bucket.take(second * TOKEN + slot, TOKENS_TO_ATTACH));
            }
            assert!(bucket.take(second * TOKEN + 999, 0), "second {second}");
        }
    }
}
