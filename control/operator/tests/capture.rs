//! What a watcher of the wire sees. Captures from the loopback interface, so it needs root (CAP_NET_RAW):
//! `cargo test --workspace --test capture -- --ignored --test-threads=1`.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// UDP payloads to and from `port` by size, from now until `stop`.
fn watch(port: u16, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<BTreeMap<usize, u64>> {
    let protocol = i32::from((libc::ETH_P_ALL as u16).to_be());
    let mut socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(protocol)))
        .expect("capturing needs CAP_NET_RAW");
    socket.set_recv_buffer_size(64 << 20).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    std::thread::spawn(move || {
        let mut sizes = BTreeMap::new();
        let mut packet = [0; 1 << 16];
        let mut stopped = None;
        loop {
            let read = socket.read(&mut packet);
            if let Ok(length) = read
                && let Some(size) = udp_payload(&packet[..length], port)
            {
                *sizes.entry(size).or_default() += 1;
            }
            if stop.load(Ordering::Acquire) {
                // What was in the buffer when the lab ended is read once nothing came for a while; others who use
                // the interface can keep that from happening, so it has its bound.
                let stopped: &Instant = stopped.get_or_insert_with(Instant::now);
                if read.is_err() || stopped.elapsed() > Duration::from_secs(5) {
                    return sizes;
                }
            }
        }
    })
}

/// The payload's size if this is an IPv4 UDP packet to or from `port`. A fragment has no whole payload: its
/// size is what is there, which no test accepts.
fn udp_payload(packet: &[u8], port: u16) -> Option<usize> {
    let header = usize::from(packet.first()? & 15) * 4;
    if packet[0] >> 4 != 4 || packet.get(9) != Some(&17) {
        return None;
    }
    let udp = packet.get(header..header + 8)?;
    let ports = [[udp[0], udp[1]], [udp[2], udp[3]]].map(u16::from_be_bytes);
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    ports.contains(&port).then(|| total - header - 8)
}

#[test]
#[ignore = "captures from the loopback interface: needs root"]
fn no_datagram_of_a_lab_has_any_other_size_than_1232_bytes() {
    let port = UdpSocket::bind("0.0.0.0:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = watch(port, Arc::clone(&stop));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, vec![1; 300_000]).unwrap();
    // Handshakes, transfer, consensus fetches at two turns of the epoch, and the stop.
    let lab = Command::new(env!("CARGO_BIN_EXE_mixctl"))
        .args([
            "lab",
            "--rate",
            "60",
            "--mean-delay",
            "5ms",
            "--epoch",
            "5s",
        ])
        .args(["--udp-port", &port.to_string(), "--send"])
        .arg(&file)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    stop.store(true, Ordering::Release);
    let sizes = watcher.join().unwrap();
    assert!(lab.success());
    assert!(
        sizes.get(&1_232).is_some_and(|count| *count > 1_000),
        "{sizes:?}"
    );
    assert_eq!(sizes.len(), 1, "{sizes:?}");
}
