//! A real browser, where one is installed, driven over its debugging port.
#![allow(dead_code)] // Each test uses a part of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::web_socket::{Client, TEXT};

/// Debian's name of it, and others'.
const BROWSERS: &[&str] = &[
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
];
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser, which ends with this.
pub struct Chrome {
    child: Child,
    address: SocketAddr,
    _home: tempfile::TempDir,
}

impl Drop for Chrome {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Chrome {
    /// Starts one; none if none is installed, which is said.
    pub fn start() -> Option<Chrome> {
        let mut paths = BROWSERS.iter().map(PathBuf::from);
        let Some(path) = paths.find(|path| path.exists()) else {
            eprintln!(
                "SKIPPED: no browser is installed (apt install chromium): nobody looked at the page"
            );
            return None;
        };
        let home = tempfile::tempdir().unwrap();
        let child = Command::new(path)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--mute-audio",
            ])
            .args(["--remote-debugging-port=0", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", home.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let said = home.path().join("DevToolsActivePort");
        let port: u16 = loop {
            let text = std::fs::read_to_string(&said).unwrap_or_default();
            if let Some(port) = text.lines().next().and_then(|line| line.parse().ok()) {
                break port;
            }
            assert!(began.elapsed() < PATIENCE, "the browser does not start");
            std::thread::sleep(Duration::from_millis(50));
        };
        Some(Chrome {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            _home: home,
        })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Opens a page.
    pub fn open(&self, url: &str) -> Tab {
        let mut stream = self.connect();
        let host = self.address;
        let ask = format!(
            "PUT /json/new?about:blank HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(ask.as_bytes()).unwrap();
        let mut said = String::new();
        // It keeps the connection: its answer's length says where the end is.
        let mut bytes = [0; 4_096];
        while !said.contains('}') {
            let length = stream.read(&mut bytes).unwrap();
            assert!(length > 0, "{said}");
            said.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        let (_, body) = said.split_once("\r\n\r\n").unwrap();
        let about: Value = serde_json::from_str(body).unwrap();
        let path = format!("/devtools/page/{}", about["id"].as_str().unwrap());
        let fields = format!("host: {host}|");
        let socket = Client::open(self.connect(), &path, &fields);
        let mut tab = Tab {
            socket: socket.ok().unwrap(),
            asked: 0,
            complaints: Vec::new(),
        };
        for domain in ["Page", "Runtime", "Log"] {
            tab.call(&format!("{domain}.enable"), json!({}));
        }
        tab.call("Page.navigate", json!({"url": url}));
        tab
    }
}

/// A page in it.
pub struct Tab {
    socket: Client<TcpStream>,
    asked: u64,
    /// What the page complained of on its console.
    pub complaints: Vec<String>,
}

impl Tab {
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let ask = json!({"id": self.asked, "method": method, "params": params});
        self.socket.send(TEXT, ask.to_string().as_bytes()).unwrap();
        loop {
            let said: Value = serde_json::from_slice(&self.socket.text().unwrap()).unwrap();
            if said["id"] == self.asked {
                assert_eq!(said["error"], Value::Null, "{method}: {said}");
                return said["result"].clone();
            }
            let params = &said["params"];
            let is_bad = match said["method"].as_str() {
                Some("Runtime.exceptionThrown") => true,
                Some("Log.entryAdded") => params["entry"]["level"] == "error",
                Some("Runtime.consoleAPICalled") => params["type"] == "error",
                _ => false,
            };
            if is_bad {
                self.complaints.push(params.to_string());
            }
        }
    }

    /// What an expression is there.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true});
        let said = self.call("Runtime.evaluate", params);
        said["result"]["value"].clone()
    }

    /// Waits until an expression is true there, and says how long that took.
    pub fn wait(&mut self, expression: &str) -> Duration {
        let began = Instant::now();
        while self.eval(&format!("!!({expression})")) != true {
            if began.elapsed() > PATIENCE {
                let page = self.eval("document.documentElement.outerHTML");
                panic!("never: {expression}\n{page}\n{:?}", self.complaints);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        began.elapsed()
    }

    /// The page's markup.
    pub fn html(&mut self) -> String {
        let html = self.eval("document.documentElement.outerHTML");
        html.as_str().unwrap().to_owned()
    }

    /// Shows it on a screen of this size.
    pub fn resize(&mut self, (width, height): (u32, u32), is_dark: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if is_dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// Pictures of the page as it is on a desk and on a phone, in the light and in the dark, where FOGMIX_PICTURES names a
    /// folder for them.
    pub fn pictures(&mut self, what: &str) {
        let Ok(folder) = std::env::var("FOGMIX_PICTURES") else {
            return;
        };
        for (screen, size) in [("desk", (1_440, 900)), ("phone", (390, 844))] {
            for (scheme, is_dark) in [("light", false), ("dark", true)] {
                self.resize(size, is_dark);
                // The next text draws it anew.
                std::thread::sleep(Duration::from_millis(1_500));
                self.picture(&Path::new(&folder).join(format!("{what}-{screen}-{scheme}.png")));
            }
        }
        // What is looked for next is on a desk's page.
        self.resize((1_440, 900), false);
    }

    /// All of the page as a picture.
    pub fn picture(&mut self, path: &Path) {
        let width = self.eval("innerWidth");
        let height = self.eval("document.documentElement.scrollHeight");
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let whole = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let said = self.call("Page.captureScreenshot", whole);
        std::fs::write(path, decode(said["data"].as_str().unwrap())).unwrap();
    }
}

/// Bytes from base64.
fn decode(text: &str) -> Vec<u8> {
    let digits = text
        .bytes()
        .filter(|byte| *byte != b'=')
        .map(|byte| match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            _ => 63,
        });
    let digits: Vec<u8> = digits.collect();
    let group = |four: &[u8]| {
        let bits = four
            .iter()
            .fold(0u32, |bits, digit| bits << 6 | u32::from(*digit));
        let bits = bits << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}
