//! A process killed while it holds a port takes nothing with it: lock, sockets and rings are free again.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use port::pool::FramePool;
use port::{
    EventFd, Exclusive, ExclusiveError, PlainPort, Port, PortParts, ReceivedBatch, SocketOptions,
    UringPort, socket, uring_available,
};

/// Run in a child of the tests below: holds a port, with operations under way, until it is killed.
#[test]
#[ignore = "run by the tests beside it in a process of its own"]
fn child_that_holds_a_port() {
    let Ok(kind) = std::env::var("PORT_KIND") else {
        return;
    };
    let exclusive = Exclusive::acquire("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut options = SocketOptions::new(exclusive.address());
    options.shared = true;
    let mut pool = FramePool::new(256).unwrap();
    let event = Arc::new(EventFd::new().unwrap());
    let parts = PortParts {
        socket: socket::open(&options).unwrap(),
        event,
    };
    let mut port: Box<dyn Port> = match kind.as_str() {
        "uring" => Box::new(UringPort::new(parts, &pool).unwrap()),
        _ => Box::new(PlainPort::new(parts, &pool).unwrap()),
    };
    println!("\nholding {}", exclusive.address());
    loop {
        port.receive(&mut pool, &mut ReceivedBatch::new());
        port.wait(None).unwrap();
    }
}

fn a_killed_holder_frees_its_port(kind: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_that_holds_a_port",
            "--ignored",
            "--nocapture",
        ])
        .env("PORT_KIND", kind)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address: SocketAddr = lines
        .find_map(|line| {
            line.unwrap()
                .strip_prefix("holding ")
                .map(|text| text.parse().unwrap())
        })
        .unwrap();
    // Another process on the port: SO_REUSEPORT alone would let it in.
    assert!(matches!(
        Exclusive::acquire(address),
        Err(ExclusiveError::OtherNode(_))
    ));
    child.kill().unwrap();
    child.wait().unwrap();
    let exclusive = Exclusive::acquire(address).unwrap();
    assert!(socket::open(&SocketOptions::new(exclusive.address())).is_ok());
}

#[test]
fn a_killed_holder_of_a_plain_port_frees_it() {
    a_killed_holder_frees_its_port("plain");
}

#[test]
fn a_killed_holder_of_a_uring_port_frees_it() {
    match uring_available() {
        Ok(()) => a_killed_holder_frees_its_port("uring"),
        Err(reason) => eprintln!("SKIPPED: {reason}"),
    }
}
