//! The XDP program: counts every packet under one reason, drops what is ours and wrong, steers
//! what is ours and right into the AF_XDP socket of its queue, and passes the rest.
//!
//! Built for the kernel by `./build`; tested by `ebpf/abi/tests/kernel.rs`.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, XskMap},
    helpers::bpf_ktime_get_ns,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use ebpf_abi::{
    Action, Address, Beyond, Bucket, Config, Counters, Handshakes, Packet, Parsed, Rate, Rates,
    Reason, SESSIONS_MAX, SOURCES_MAX, Tables, XSKS_MAX, admit, parse,
};

#[btf_map]
static CONFIG: Array<Config, 1> = Array::new();
#[btf_map]
static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
/// Receiver indices of live sessions and of handshakes under way, each with the source that it belongs to; zero: to
/// nobody that is proved.
#[btf_map]
static SESSIONS: HashMap<u32, Address, { SESSIONS_MAX }> = HashMap::new();
/// The nodes of the consensus, by source, with the rate of their frames.
#[btf_map]
static PEERS: HashMap<Address, Rate, { SESSIONS_MAX }> = HashMap::new();
/// Of frames that come from where their session's are to come from.
#[btf_map]
static SOURCES: LruHashMap<Address, Bucket, { SOURCES_MAX }> = LruHashMap::new();
/// Of frames of nodes that their own buckets have no tokens for, by queue: no two CPUs serve one.
#[btf_map]
static BEYOND: Array<Beyond, { XSKS_MAX }> = Array::new();
/// Of all other frames: whoever guesses an index spends none of what is its owner's, nor of what is the claimed source's.
#[btf_map]
static STRANGERS: LruHashMap<Address, Bucket, { SOURCES_MAX }> = LruHashMap::new();
/// Initiations of nodes of the consensus.
#[btf_map]
static MEMBER_HANDSHAKES: LruHashMap<Address, Handshakes, { SOURCES_MAX }> = LruHashMap::new();
/// Initiations of others.
#[btf_map]
static HANDSHAKE_SOURCES: LruHashMap<Address, Handshakes, { SOURCES_MAX }> = LruHashMap::new();
/// Buckets of each CPU: no two race for them.
#[btf_map]
static HANDSHAKES: PerCpuArray<Handshakes, 1> = PerCpuArray::new();
#[btf_map]
static XSKS: XskMap<{ XSKS_MAX }> = XskMap::new();

/// Larger than any offset the parser asks for; the verifier wants an upper bound.
const OFFSET_MAX: usize = 0x3fff;

struct Frame<'a>(&'a XdpContext);

impl Packet for Frame<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > OFFSET_MAX {
            return None;
        }
        let start = self.0.data() + offset;
        if start + N > self.0.data_end() {
            return None;
        }
        // SAFETY: start..start + N lies within the packet, checked above; bytes have no alignment.
        Some(unsafe { core::ptr::read_unaligned(start as *const [u8; N]) })
    }
}

#[xdp]
pub fn steer(ctx: XdpContext) -> u32 {
    let reason = decide(&ctx);
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy, and the program is not preempted by itself.
        if let Some(packets) = unsafe { (*counters).packets.get_mut(reason as usize) } {
            *packets += 1;
        }
    }
    match reason.action() {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
        Action::Redirect => xdp_action::XDP_REDIRECT,
    }
}

#[inline(always)]
fn decide(ctx: &XdpContext) -> Reason {
    let Some(config) = CONFIG.get(0) else {
        return Reason::Unconfigured;
    };
    if config.port == 0 {
        return Reason::Unconfigured;
    }
    let (source, datagram) = match parse(&Frame(ctx), &config.receiver()) {
        Parsed::Decided(reason) => return reason,
        Parsed::Ours(source, datagram) => (source, datagram),
    };
    let queue = ctx.rx_queue_index();
    if let Some(reason) = admit(&Maps { queue }, config, &source, datagram) {
        return reason;
    }
    match XSKS.redirect(queue, u64::from(xdp_action::XDP_PASS)) {
        Ok(_) => Reason::Steered,
        Err(_) => Reason::KernelSocket,
    }
}

/// The maps, as what decides over admission sees them.
struct Maps {
    queue: u32,
}

impl Tables for Maps {
    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn owner(&self, index: u32) -> Option<Address> {
        // SAFETY: the loader alone writes sessions; an owner read while it changes is off for one packet.
        unsafe { SESSIONS.get(index) }.copied()
    }

    #[inline(always)]
    fn peer(&self, source: &Address) -> Option<Rate> {
        // SAFETY: as for sessions.
        unsafe { PEERS.get(source) }.copied()
    }

    #[inline(always)]
    fn take_source(&self, source: &Address, now_ns: u64, rate: &Rate) -> bool {
        take(&SOURCES, source, |bucket| bucket.take(now_ns, rate))
    }

    #[inline(always)]
    fn take_beyond(&self, now_ns: u64) -> bool {
        let Some(beyond) = BEYOND.get_ptr_mut(self.queue) else {
            return false;
        };
        // SAFETY: map memory stays valid for this run of the program; the loader writes the rate in aligned words.
        unsafe { (*beyond).take(now_ns) }
    }

    #[inline(always)]
    fn take_stranger(&self, source: &Address, now_ns: u64, rate: &Rate) -> bool {
        take(&STRANGERS, source, |bucket| bucket.take(now_ns, rate))
    }

    #[inline(always)]
    fn take_member_handshake(
        &self,
        source: &Address,
        mac2: bool,
        now_ns: u64,
        rates: &Rates,
    ) -> bool {
        take(&MEMBER_HANDSHAKES, source, |buckets| {
            buckets.take(mac2, now_ns, rates)
        })
    }

    #[inline(always)]
    fn take_handshake(&self, source: &Address, mac2: bool, now_ns: u64, rates: &Rates) -> bool {
        take(&HANDSHAKE_SOURCES, source, |buckets| {
            buckets.take(mac2, now_ns, rates)
        })
    }

    #[inline(always)]
    fn take_any_handshake(&self, mac2: bool, now_ns: u64, rates: &Rates) -> bool {
        let Some(buckets) = HANDSHAKES.get_ptr_mut(0) else {
            return false;
        };
        // SAFETY: this CPU's own copy.
        unsafe { (*buckets).take(mac2, now_ns, rates) }
    }
}

/// Takes from the source's buckets; a source not seen lately starts with full ones.
#[inline(always)]
fn take<B: Default>(
    buckets: &LruHashMap<Address, B, { SOURCES_MAX }>,
    source: &Address,
    from: impl Fn(&mut B) -> bool,
) -> bool {
    if let Some(bucket) = buckets.get_ptr_mut(source) {
        // SAFETY: map memory stays valid for this run of the program; a racing CPU writes the same
        // aligned words, which costs at most the count of one packet.
        return from(unsafe { &mut *bucket });
    }
    let mut bucket = B::default();
    let admitted = from(&mut bucket);
    // Fails only if another CPU was first or memory is short: one packet goes uncounted.
    let _ = buckets.insert(source, bucket, 0);
    admitted
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel lends `bpf_redirect_map` and `bpf_ktime_get_ns` to any licence but wants one named;
/// "Dual MIT/GPL" is the closest of the names that it knows.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
