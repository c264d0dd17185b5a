//! What the daemons beside the nodes tell whom, while clients are attached and a file was carried: all that there is to say
//! of the network, and nothing of a client, a mailbox or a way.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::running::{mixctl, stdout, wait_until};
use crate::web_socket::Client;
use crate::{Hosts, ROLES, exposition, json, text};

impl Hosts {
    /// What the daemons beside the nodes say, while clients are attached: all that there is to say of the network, and
    /// nothing of a client, a mailbox or a path.
    pub fn tell(&self, clients: &[String]) {
        let own = |number: usize| self.path(&format!("node-{number}/http.sock"));
        let ask = |number: usize, command: &str| json(&[command, "--socket", text(&own(number))]);
        for (number, role) in ROLES.iter().enumerate() {
            let mut status = Value::Null;
            wait_until("a node that is ready", || {
                status = ask(number, "status");
                status["state"] == "ready"
            });
            let of = &status["node"];
            assert_eq!(of["role"], *role, "{status}");
            assert_eq!(of["operator"], format!("operator {number}"));
            assert_eq!(
                (&of["listed"], &of["keys_origin"]),
                (&true.into(), &"new".into())
            );
            assert!(
                status["counters"]["received"].as_u64() > Some(0),
                "{status}"
            );
            assert_eq!(status["counters"]["unconserved"], 0);
            // What the node says to mixctld once a second, and its page does not.
            assert!(of["started_unix_ms"].as_u64() > Some(0), "{status}");
            assert!(status["rates"].is_object(), "{status}");
            assert!(plain(&own(number), "/readyz").starts_with("HTTP/1.1 200"));
        }
        // What the node says of its workers reaches whoever asks mixctld for it.
        let loops = ask(2, "loops");
        assert!(loops["loops"]["returned"].as_u64() > Some(0), "{loops}");
        assert!(loops["loss"]["high"].is_f64(), "{loops}");
        let drops = ask(2, "why-dropped");
        for drop in drops["drops"].as_array().unwrap() {
            assert!(!drop["remedy"].as_str().unwrap().is_empty(), "{drops}");
        }
        let top = ask(2, "top");
        assert!(!top["workers"]["workers"].as_array().unwrap().is_empty());
        // Whatever else this host lacks.
        let doctor = mixctl()
            .args(["doctor", "--json", "--socket", text(&own(2))])
            .output()
            .unwrap();
        let doctor: Value = serde_json::from_slice(&doctor.stdout).unwrap();
        for what in ["node", "document"] {
            let mut findings = doctor["findings"].as_array().unwrap().iter();
            assert!(findings.any(|found| found["what"] == what), "{doctor}");
        }
        let nodes = ask(2, "nodes");
        assert_eq!(nodes["nodes"].as_array().unwrap().len(), ROLES.len());
        let epochs = ask(2, "epoch");
        assert!(epochs["in_force"].is_u64(), "{epochs}");
        let ready = mixctl()
            .args(["status", "--ready", "--socket", text(&own(3))])
            .env("COLUMNS", "40")
            .output()
            .unwrap();
        assert!(ready.status.success(), "{}", stdout(&ready));
        assert!(
            stdout(&ready)
                .lines()
                .all(|line| line.chars().count() <= 40)
        );
        let secrets = clients.iter().flat_map(|text| {
            let address: fog::Address = text.parse().unwrap();
            let [destination, x25519] = [&address.destination[..], &address.x25519[..]];
            // Bytes as they are shown, and as they are by who does not think of it.
            let shown = [destination, x25519].map(directory::store::hex);
            let bare = [destination, x25519].map(|bytes| format!("{bytes:?}"));
            // Clients are at the address that loopback gives to who names none.
            let others = [text.to_owned(), "127.0.0.1".to_owned()];
            shown.into_iter().chain(bare).chain(others)
        });
        let secrets: Vec<String> = secrets.collect();
        let folder = [text(self.folder.path()).to_owned()];
        for number in 0..ROLES.len() {
            let mut asked = 0;
            for route in routes(&own(number)) {
                let said = match route.as_str() {
                    "/ws/updates" => {
                        let stream = UnixStream::connect(own(number)).unwrap();
                        let socket = Client::open(stream, &route, "host: localhost|");
                        String::from_utf8(socket.ok().unwrap().text().unwrap()).unwrap()
                    }
                    _ => plain(&own(number), &route),
                };
                assert!(!said.is_empty(), "{route}");
                // Where a dashboard could be is said to who asks for one in vain.
                let said = said.replace("127.0.0.1:9102", "");
                let leaks = leaked(&said, &secrets).or(leaked(&said, &folder));
                assert_eq!(leaks, None, "{route}: {said}");
                asked += 1;
            }
            assert!(asked >= 16, "{asked} routes");
        }
        // Nor in the logs, whatever they are asked to tell, but for folders of the host, which are its own business; and
        // labels of the nodes' own pages are words: no address, no key, no number of a node.
        let listed: Vec<[String; 3]> = nodes["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| {
                let of = |key: &str| node[key].as_str().unwrap().to_owned();
                let (_, number) = node["operator"].as_str().unwrap().split_once(' ').unwrap();
                [
                    of("operator"),
                    of("identity"),
                    format!("127.20.{number}.1:"),
                ]
            })
            .collect();
        for number in 0..ROLES.len() {
            for log in ["mixnode.log", "mixctld.log"] {
                let log = self.path(&format!("node-{number}/{log}"));
                let said = std::fs::read_to_string(&log).unwrap();
                assert!(
                    log.ends_with("mixctld.log") || said.contains("started"),
                    "{said}"
                );
                assert_eq!(leaked(&said, &secrets), None, "{said}");
                // Who names two nodes in a line says something of a way.
                let names = |line: &str| {
                    let is_named =
                        |node: &&[String; 3]| node.iter().any(|name| line.contains(name.as_str()));
                    listed.iter().filter(is_named).count()
                };
                for line in said.lines() {
                    assert!(names(line) < 2, "{line}");
                }
            }
            // Under load, both daemons' pages are as Prometheus wants them.
            for page in ["/metrics", "/metrics/node"] {
                let said = plain(&own(number), page);
                let (head, page) = said.split_once("\r\n\r\n").unwrap();
                assert!(head.starts_with("HTTP/1.1 200 "), "{said}");
                exposition::check(page).unwrap();
                exposition::check_by_promtool(page).unwrap();
            }
            for label in labels(&plain(&own(number), "/metrics/node")) {
                let is_number = label.parse::<f64>().is_ok() && label != "+Inf";
                let is_key =
                    label.len() >= 16 && label.bytes().all(|byte| byte.is_ascii_hexdigit());
                let is_address = label.parse::<std::net::SocketAddr>().is_ok()
                    || label.parse::<std::net::IpAddr>().is_ok();
                assert!(!is_number && !is_key && !is_address, "{label}");
            }
        }
    }
}

/// All that there is to ask of the daemon at a socket, by its own description.
fn routes(socket: &Path) -> Vec<String> {
    let said = plain(socket, "/api/v1/openapi.json");
    let (_, described) = said.split_once("\r\n\r\n").unwrap();
    let described: Value = serde_json::from_str(described).unwrap();
    let paths = described["paths"].as_object().unwrap();
    paths.keys().cloned().collect()
}

/// The first of the secrets that is in a text.
fn leaked<'a>(said: &str, secrets: &'a [String]) -> Option<&'a String> {
    secrets.iter().find(|secret| said.contains(secret.as_str()))
}

/// Values of all labels of an exposition, but for bounds of histograms.
fn labels(page: &str) -> Vec<String> {
    let samples = page.lines().filter(|line| line.starts_with("mixnode_"));
    let labels = samples.filter_map(|line| line.split_once('{')?.1.rsplit_once('}'));
    let named = labels.flat_map(|(labels, _)| labels.split(','));
    let values = named.filter(|label| !label.starts_with("le="));
    let values = values.filter_map(|label| Some(label.split_once('=')?.1.trim_matches('"')));
    let values: Vec<String> = values.map(str::to_owned).collect();
    assert!(values.len() > 20, "{page}");
    values
}

/// What is answered at a socket, head included.
fn plain(socket: &Path, route: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET {route} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}
