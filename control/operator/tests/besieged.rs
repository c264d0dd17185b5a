//! The API of a node's daemon besieged in every way that its address allows, and the packets beside it: how many are
//! forwarded, how late they leave and how long loops take, with and without. A network of real processes under constant
//! traffic; what decides is that each siege has its defined answer and that no packet is lost, never a time. No root.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use control::api::client;
use control::api::shapes::{Dashboard, Updates};
use mixnode::process::status::NodeStatus;

mod programs;
mod running;
mod scene;
#[path = "../../daemon/src/api/tests/web_socket.rs"]
mod web_socket;

use running::{PATIENCE, wait_until};
use scene::{NODES, Scene, Traffic};
use web_socket::Client;

/// A phase lasts so long at least.
const PHASE: Duration = Duration::from_secs(10);
const IDLE: usize = 1_000;
const BODY: usize = 10_000_000;

/// Besieges until it is enough, and says what the answers were.
type Play = fn(&Siege) -> String;

/// The daemon's address and token, and when it is enough.
struct Siege {
    address: SocketAddr,
    token: String,
    is_over: AtomicBool,
}

impl Siege {
    fn of(scene: &Scene) -> Siege {
        let shown = client::get::<Dashboard>(&scene.path("http.sock"), "/api/v1/dashboard");
        let url = shown.unwrap_or_else(|failure| panic!("{failure}")).url;
        let (address, token) = url.split_once("/#").unwrap();
        Siege {
            address: address.strip_prefix("http://").unwrap().parse().unwrap(),
            token: token.to_owned(),
            is_over: AtomicBool::new(false),
        }
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The status of what is answered to a request with these fields, which end in `|`; none where it is hung up on.
    fn asked(&self, method: &str, fields: &str, body: &[u8]) -> Option<u16> {
        let mut stream = self.connect();
        let head = format!("{method} /api/v1/updates HTTP/1.1|{fields}|").replace('|', "\r\n");
        // Whoever hangs up in the middle has answered already.
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(body);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        said.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }

    fn host(&self) -> String {
        format!("host: {}|", self.address)
    }

    fn bearer(&self) -> String {
        format!("{}authorization: Bearer {}|", self.host(), self.token)
    }

    /// Opens a WebSocket; else what is answered.
    fn looks(&self) -> Result<Client<TcpStream>, String> {
        let token = format!("sec-websocket-protocol: fogmix.v1, token.{}|", self.token);
        Client::open(self.connect(), "/ws/updates", &(self.host() + &token))
    }

    /// The same as soon as there is a place: whoever has left gives theirs back a moment later.
    fn looks_soon(&self) -> Client<TcpStream> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.looks() {
                Ok(client) => return client,
                Err(said) => assert!(Instant::now() < until, "{said}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks the same over and over, as fast as it is answered; every answer is one of these, and the first of them is given.
    fn asks_on(&self, method: &str, fields: &str, body: &[u8], defined: &[Option<u16>]) -> String {
        let mut counts: BTreeMap<Option<u16>, u32> = BTreeMap::new();
        let begun = Instant::now();
        while self.goes_on() {
            let status = self.asked(method, fields, body);
            assert!(defined.contains(&status), "{method} {fields}: {status:?}");
            *counts.entry(status).or_default() += 1;
        }
        assert!(
            counts.contains_key(&defined[0]),
            "{method} {fields}: {counts:?}"
        );
        let seconds = begun.elapsed().as_secs_f64();
        let counts = counts.into_iter().map(|(status, count)| {
            let status = status.map_or("hung up".to_owned(), |status| status.to_string());
            format!("{status} {:.0}/s", f64::from(count) / seconds)
        });
        counts.collect::<Vec<_>>().join(", ")
    }
}

fn wrong_token(siege: &Siege) -> String {
    let fields = format!("{}authorization: Bearer {}|", siege.host(), "0".repeat(64));
    let said = siege.asks_on("GET", &fields, &[], &[Some(401), Some(429)]);
    // Whoever has it is not told to wait.
    assert_eq!(siege.asked("GET", &siege.bearer(), &[]), Some(200));
    said
}

fn foreign_origin(siege: &Siege) -> String {
    let fields = siege.bearer() + "origin: http://evil.example|";
    siege.asks_on("GET", &fields, &[], &[Some(403)])
}

fn foreign_host(siege: &Siege) -> String {
    let fields = siege.bearer().replace(&siege.host(), "host: evil.example|");
    siege.asks_on("GET", &fields, &[], &[Some(403)])
}

/// It is refused by its length and not read, so the end of the connection may overtake the answer.
fn large_body(siege: &Siege) -> String {
    let fields = format!("{}content-length: {BODY}|", siege.bearer());
    let body = vec![b'x'; BODY];
    siege.asks_on("POST", &fields, &body, &[Some(413), None])
}

/// Eight are told once a second, and one more asks for a place over and over.
fn eight_and_a_ninth(siege: &Siege) -> String {
    let mut eight: Vec<_> = (0..8).map(|_| siege.looks_soon()).collect();
    let (mut refused, begun) = (0, Instant::now());
    let mut texts = 0;
    while siege.goes_on() {
        for _ in 0..20 {
            let said = siege.looks().err().unwrap();
            assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
            refused += 1;
        }
        for client in &mut eight {
            serde_json::from_slice::<Updates>(&client.text().unwrap()).unwrap();
            texts += 1;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    format!(
        "{:.1} texts/s to eight, 503 {:.0}/s to the ninth",
        f64::from(texts) / seconds,
        f64::from(refused) / seconds
    )
}

/// Eight that read nothing are hung up on, whatever they were sent meanwhile.
fn deaf_readers(siege: &Siege) -> String {
    let deaf: Vec<_> = (0..8).map(|_| siege.looks_soon()).collect();
    let ninth = siege.looks().err();
    let ninth = ninth.expect("a ninth has no place while eight have theirs");
    assert!(ninth.starts_with("HTTP/1.1 503 "), "{ninth}");
    let begun = Instant::now();
    let taken = siege.looks_soon();
    let freed_s = begun.elapsed().as_secs();
    drop(taken);
    deaf.into_iter().for_each(|mut client| client.drain());
    format!("their places were free after {freed_s} s")
}

/// Some have a seat and their time for a request, all others are hung up on at the door.
fn idle_connections(siege: &Siege) -> String {
    let idle: Vec<_> = (0..IDLE).map(|_| siege.connect()).collect();
    let begun = Instant::now();
    let (mut at_once, mut waited) = (0, 0);
    for mut stream in idle {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408"));
        match begun.elapsed() < Duration::from_secs(2) {
            true => at_once += 1,
            false => waited += 1,
        }
    }
    assert_eq!(siege.asked("GET", &siege.bearer(), &[]), Some(200));
    format!("{at_once} hung up on at once, {waited} within their time for a request")
}

/// What any program beside the nodes costs that is as busy as who besieges and who answers: no siege at all.
fn two_busy_programs(siege: &Siege) -> String {
    let work = || {
        let mut sum = 0u64;
        while siege.goes_on() {
            sum = std::hint::black_box(sum.wrapping_mul(31) + 1);
        }
        sum
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    "no siege: two threads that compute".to_owned()
}

fn quiet(siege: &Siege) -> String {
    while siege.goes_on() {
        std::thread::sleep(Duration::from_millis(50));
    }
    "nobody asks".to_owned()
}

/// What all nodes have counted since they started.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    transmitted: u64,
    /// Frames dropped by nodes, for any reason.
    rejected: u64,
    /// Datagrams that the kernel dropped before a node or after it.
    by_kernel: u64,
    /// Loops given up.
    loops_lost: u64,
}

impl Counted {
    fn of(scene: &Scene) -> Counted {
        let mut sum = Counted::default();
        for number in 0..NODES {
            let page = scene.page_of(number);
            let of = |series: &str| -> u64 {
                let lines = page.lines().filter_map(|line| {
                    let (name, value) = line.rsplit_once(' ')?;
                    let name = name.split('{').next()?;
                    (name == series).then(|| value.parse::<u64>().unwrap())
                });
                lines.sum()
            };
            sum.transmitted += of("mixnode_transmitted_total");
            sum.rejected += of("mixnode_rejected_total");
            for series in ["kernel_dropped", "transmit_failed", "transmit_dropped"] {
                sum.by_kernel += of(&format!("mixnode_{series}_total"));
            }
            sum.loops_lost += of("mixnode_loop_lost_total");
        }
        sum
    }

    fn since(self, then: Counted) -> Counted {
        Counted {
            transmitted: self.transmitted - then.transmitted,
            rejected: self.rejected - then.rejected,
            by_kernel: self.by_kernel - then.by_kernel,
            // One that comes late is taken back.
            loops_lost: self.loops_lost.saturating_sub(then.loops_lost),
        }
    }
}

/// What a node has said of itself, a line a second.
fn said_by(scene: &Scene, number: usize) -> Vec<NodeStatus> {
    let said = std::fs::read_to_string(scene.path(&format!("{number}.toml.out"))).unwrap();
    // The last one may be half written.
    let lines = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines.collect()
}

fn median(mut of: Vec<u64>) -> u64 {
    of.sort_unstable();
    of.get(of.len() / 2).copied().unwrap_or(0)
}

/// Plays one siege, and says what became of it and of the packets meanwhile.
fn phase(scene: &Scene, name: &str, play: Play) -> Counted {
    let siege = Siege::of(scene);
    let lines: Vec<usize> = (0..NODES)
        .map(|number| said_by(scene, number).len())
        .collect();
    let (before, begun) = (Counted::of(scene), Instant::now());
    let answers = std::thread::scope(|scope| {
        let playing = scope.spawn(|| play(&siege));
        std::thread::sleep(PHASE);
        siege.is_over.store(true, Ordering::Relaxed);
        playing.join().unwrap()
    });
    let (counted, seconds) = (
        Counted::of(scene).since(before),
        begun.elapsed().as_secs_f64(),
    );
    let said: Vec<NodeStatus> = (0..NODES)
        .flat_map(|number| said_by(scene, number).split_off(lines[number]))
        .collect();
    let of = |value: fn(&NodeStatus) -> u64| said.iter().map(value).collect::<Vec<u64>>();
    let p99 = of(|said| said.lateness_p99_us);
    println!(
        "{name:<18} {:>6.0} forwarded/s; late p50 {:>4} us, p99 {:>5} us (worst second {:>6} us); loops' round trip p50 {:>5} us; \
         {} dropped, {} by the kernel, {} loops lost; {answers}",
        counted.transmitted as f64 / seconds,
        median(of(|said| said.lateness_p50_us)),
        median(p99.clone()),
        p99.iter().max().unwrap_or(&0),
        median(of(|said| said.loop_p50_us)),
        counted.rejected,
        counted.by_kernel,
        counted.loops_lost,
    );
    counted
}

#[test]
#[ignore = "minutes, and the machine to itself: its figures are the point"]
fn whoever_besieges_the_api_has_an_answer_and_no_packet_is_lost() {
    program::limits::descriptors(4_096).unwrap();
    let scene = Scene::open(Traffic {
        epoch: "16s",
        loop_interval_ms: 8,
        max_pps: 20_000,
    });
    wait_until("loops that come home", || {
        scene.measured("mixnode_loop_returned_total") > Some(1_000.0)
    });
    // Sessions are opened when there is something to send: what was dropped until then is nobody's fault.
    std::thread::sleep(PHASE / 2);
    let phases: [(&str, Play); 10] = [
        ("quiet", quiet),
        ("wrong token", wrong_token),
        ("foreign Origin", foreign_origin),
        ("foreign Host", foreign_host),
        ("10 MB bodies", large_body),
        ("eight and a ninth", eight_and_a_ninth),
        ("deaf readers", deaf_readers),
        ("1,000 idle", idle_connections),
        ("two busy programs", two_busy_programs),
        ("quiet again", quiet),
    ];
    let mut lost = Vec::new();
    for (name, play) in phases {
        let counted = phase(&scene, name, play);
        if counted.rejected + counted.by_kernel + counted.loops_lost > 0 {
            lost.push((name, counted));
        }
    }
    assert!(lost.is_empty(), "{lost:?}");
}
