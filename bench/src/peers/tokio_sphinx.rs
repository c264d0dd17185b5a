//! A plain mix node, written here for comparison, as one would write it on tokio: a task for each connection reads
//! packets with a length before them, `sphinx_packet` processes each, a `DelayQueue` holds it, and a task for each next
//! hop writes it to a connection of its own. Nym's mix node does this at its core; this is not Nym's code.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use sphinx_packet::crypto::PrivateKey;
use sphinx_packet::packet::ProcessedPacketData;
use sphinx_packet::{ProcessedPacket, SphinxPacket};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio_util::time::DelayQueue;

/// Of a connection, each way.
const BUFFER_BYTES: usize = 64 * 1024;
/// Longest packet that is read.
const PACKET_MAX: usize = 64 * 1024;
/// Packets between two tasks.
const QUEUE: usize = 1_024;

/// Next hops by the address in a packet's header.
pub(super) type NextHops = HashMap<[u8; 32], SocketAddr>;

/// How the node is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// On all cores with tokio's threads, else on one.
    pub(super) all_cores: bool,
    /// Remembers replay tags in a hash set.
    pub(super) remembers: bool,
    /// The core, if it is one.
    pub(super) core: usize,
}

/// A node that runs until this is dropped.
pub(super) struct TokioNode {
    pub(super) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    threads: Arc<Mutex<Vec<i32>>>,
    failed: Arc<AtomicBool>,
}

/// What all connections share.
struct Shared {
    secret: PrivateKey,
    seen: Option<Mutex<HashSet<[u8; 32]>>>,
    held: mpsc::Sender<Held>,
    failed: Arc<AtomicBool>,
}

/// A packet on its way.
struct Held {
    next_hop: [u8; 32],
    bytes: Vec<u8>,
    delay: Duration,
}

impl TokioNode {
    pub(super) fn start(
        secret: [u8; 32],
        next_hops: NextHops,
        options: Options,
    ) -> io::Result<TokioNode> {
        let threads = Arc::new(Mutex::new(Vec::new()));
        let failed = Arc::new(AtomicBool::new(false));
        let runtime = runtime(options, &threads)?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let (held, arrivals) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            secret: PrivateKey::from(secret),
            seen: options.remembers.then(Mutex::default),
            held,
            failed: Arc::clone(&failed),
        });
        let noted = Arc::clone(&threads);
        let run = move || {
            note(&noted);
            if !options.all_cores && port::affinity::pin(options.core).is_err() {
                shared.failed.store(true, Ordering::Release);
            }
            runtime.block_on(async {
                let links = links(next_hops, &shared.failed);
                tokio::spawn(hold(arrivals, links));
                tokio::spawn(accept(listener, shared));
                // Also when whoever asked for the node is gone.
                let _ = stopped.await;
            });
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("tokio-node".into());
        Ok(TokioNode {
            address,
            stop: Some(stop),
            thread: Some(thread.spawn(run)?),
            threads,
            failed,
        })
    }

    /// CPU time of its threads.
    pub(super) fn cpu_ns(&self) -> u64 {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.iter().map(|id| crate::clock::cpu_ns_of(*id)).sum()
    }

    /// Whether a connection ended with an error.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

impl Drop for TokioNode {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn runtime(options: Options, threads: &Arc<Mutex<Vec<i32>>>) -> io::Result<Runtime> {
    let mut builder = match options.all_cores {
        true => Builder::new_multi_thread(),
        false => Builder::new_current_thread(),
    };
    let threads = Arc::clone(threads);
    builder
        .enable_io()
        .enable_time()
        .on_thread_start(move || note(&threads))
        .build()
}

/// Remembers this thread's number.
fn note(threads: &Mutex<Vec<i32>>) {
    let id = rustix::thread::gettid().as_raw_nonzero().get();
    let mut threads = threads.lock().unwrap_or_else(PoisonError::into_inner);
    threads.push(id);
}

/// One task and one connection a next hop.
fn links(
    next_hops: NextHops,
    failed: &Arc<AtomicBool>,
) -> HashMap<[u8; 32], mpsc::Sender<Vec<u8>>> {
    let link = |(name, address)| {
        let (sender, packets) = mpsc::channel(QUEUE);
        let failed = Arc::clone(failed);
        tokio::spawn(async move {
            if transmit(packets, address).await.is_err() {
                failed.store(true, Ordering::Release);
            }
        });
        (name, sender)
    };
    next_hops.into_iter().map(link).collect()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if receive(stream, &shared).await.is_err() {
                shared.failed.store(true, Ordering::Release);
            }
        });
    }
}

async fn receive(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(BUFFER_BYTES, stream);
    loop {
        let length = match stream.read_u32().await {
            Ok(length) => length as usize,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        if length > PACKET_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await?;
        let Some(processed) = shared.process(&bytes)? else {
            continue;
        };
        if let ProcessedPacketData::ForwardHop {
            next_hop_packet,
            next_hop_address,
            delay,
        } = processed.data
        {
            let held = Held {
                next_hop: next_hop_address.to_bytes(),
                bytes: next_hop_packet.to_bytes(),
                delay: delay.to_duration(),
            };
            let sent = shared.held.send(held).await;
            sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
    }
}

impl Shared {
    /// `None` of a packet that was here before.
    fn process(&self, bytes: &[u8]) -> io::Result<Option<ProcessedPacket>> {
        let packet = SphinxPacket::from_bytes(bytes).map_err(io::Error::other)?;
        let Some(seen) = &self.seen else {
            let processed = packet.process(&self.secret).map_err(io::Error::other)?;
            return Ok(Some(processed));
        };
        let expanded = packet.header.compute_expanded_shared_secret(&self.secret);
        let tag = *expanded.replay_tag();
        let processed = packet.process_with_expanded_secret(&expanded);
        let processed = processed.map_err(io::Error::other)?;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(seen.insert(tag).then_some(processed))
    }
}

/// Holds packets for their delays.
async fn hold(mut arrivals: mpsc::Receiver<Held>, links: HashMap<[u8; 32], mpsc::Sender<Vec<u8>>>) {
    enum Step {
        Arrived(Held),
        Due(([u8; 32], Vec<u8>)),
        Over,
    }
    let mut queue = DelayQueue::new();
    loop {
        let step = poll_fn(|context| {
            match arrivals.poll_recv(context) {
                Poll::Ready(Some(held)) => return Poll::Ready(Step::Arrived(held)),
                Poll::Ready(None) => return Poll::Ready(Step::Over),
                Poll::Pending => {}
            }
            match queue.poll_expired(context) {
                Poll::Ready(Some(due)) => Poll::Ready(Step::Due(due.into_inner())),
                // An empty queue: the next arrival wakes this.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            }
        });
        match step.await {
            Step::Arrived(held) => {
                queue.insert((held.next_hop, held.bytes), held.delay);
            }
            Step::Due((next_hop, bytes)) => {
                if let Some(link) = links.get(&next_hop) {
                    // A next hop that is gone loses its packets.
                    let _ = link.send(bytes).await;
                }
            }
            Step::Over => return,
        }
    }
}

async fn transmit(mut packets: mpsc::Receiver<Vec<u8>>, address: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufWriter::with_capacity(BUFFER_BYTES, stream);
    while let Some(mut packet) = packets.recv().await {
        loop {
            stream.write_u32(packet.len() as u32).await?;
            stream.write_all(&packet).await?;
            match packets.try_recv() {
                Ok(next) => packet = next,
                Err(_) => break,
            }
        }
        stream.flush().await?;
    }
    Ok(())
}
