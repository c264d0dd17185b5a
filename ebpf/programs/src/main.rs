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
    Action, Bucket, Config, Counters, Datagram, Packet, Parsed, Rate, Reason, SESSIONS_MAX,
    SOURCES_MAX, XSKS_MAX, parse,
};

#[btf_map]
static CONFIG: Array<Config, 1> = Array::new();
#[btf_map]
static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
/// Receiver indices of live sessions and of handshakes under way. The value means nothing.
#[btf_map]
static SESSIONS: HashMap<u32, u32, { SESSIONS_MAX }> = HashMap::new();
/// Sources with a rate of their own: the nodes of the consensus.
#[btf_map]
static PEERS: HashMap<[u8; 16], Rate, { SESSIONS_MAX }> = HashMap::new();
#[btf_map]
static SOURCES: LruHashMap<[u8; 16], Bucket, { SOURCES_MAX }> = LruHashMap::new();
/// Apart from `SOURCES`: forged sources of handshakes must not push out the buckets of peers.
#[btf_map]
static HANDSHAKE_SOURCES: LruHashMap<[u8; 16], Bucket, { SOURCES_MAX }> = LruHashMap::new();
/// One bucket a CPU: no two CPUs race for it.
#[btf_map]
static HANDSHAKES: PerCpuArray<Bucket, 1> = PerCpuArray::new();
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
    let (source, datagram) = match parse(&Frame(ctx), config.port as u16) {
        Parsed::Decided(reason) => return reason,
        Parsed::Ours(source, datagram) => (source, datagram),
    };
    let refused = match datagram {
        Datagram::Session(index) => session(config, &source, index),
        Datagram::Initiation => initiation(config, &source),
    };
    if let Some(reason) = refused {
        return reason;
    }
    match XSKS.redirect(ctx.rx_queue_index(), u64::from(xdp_action::XDP_PASS)) {
        Ok(_) => Reason::Steered,
        Err(_) => Reason::KernelSocket,
    }
}

/// The index first: a forged source without a session can't spend a peer's tokens.
#[inline(always)]
fn session(config: &Config, source: &[u8; 16], index: u32) -> Option<Reason> {
    if SESSIONS.get_ptr(index).is_none() {
        return Some(Reason::UnknownIndex);
    }
    // SAFETY: a helper without arguments.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the loader alone writes peers; a rate read while it changes is off for one packet.
    let rate = match unsafe { PEERS.get(source) } {
        Some(wanted) => config.peer(wanted),
        None => config.source,
    };
    if take(&SOURCES, source, now_ns, &rate) {
        None
    } else {
        Some(Reason::SourceRate)
    }
}

#[inline(always)]
fn initiation(config: &Config, source: &[u8; 16]) -> Option<Reason> {
    // SAFETY: a helper without arguments.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    if !take(&HANDSHAKE_SOURCES, source, now_ns, &config.handshake_source) {
        return Some(Reason::HandshakeSourceRate);
    }
    let bucket = HANDSHAKES.get_ptr_mut(0)?;
    // SAFETY: this CPU's own copy.
    let admitted = unsafe { (*bucket).take(now_ns, &config.handshake) };
    if admitted {
        None
    } else {
        Some(Reason::HandshakeRate)
    }
}

/// Takes from the source's bucket; a source not seen lately starts with a full one.
#[inline(always)]
fn take(
    buckets: &LruHashMap<[u8; 16], Bucket, { SOURCES_MAX }>,
    source: &[u8; 16],
    now_ns: u64,
    rate: &Rate,
) -> bool {
    if let Some(bucket) = buckets.get_ptr_mut(source) {
        // SAFETY: map memory stays valid for this run of the program; a racing CPU writes the same
        // aligned word, which costs at most the count of one packet.
        return unsafe { (*bucket).take(now_ns, rate) };
    }
    let mut bucket = Bucket::default();
    let admitted = bucket.take(now_ns, rate);
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
