//! Hosts and switches made of network namespaces. Needs root:
//! `cargo test --workspace --test netns -- --ignored --test-threads=1`.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use loader::netns::{End, Namespace, Switch};

#[test]
#[ignore = "needs root"]
fn hosts_on_a_switch_reach_each_other_over_both_ip_versions_and_leave_nothing_behind() {
    let switch = Switch::create("netns").unwrap();
    let hosts = [1, 2].map(|number| {
        let host = Namespace::create("netns").unwrap();
        let addresses: [(IpAddr, u8); 2] = [
            (format!("10.9.0.{number}").parse().unwrap(), 24),
            (format!("fd09::{number}").parse().unwrap(), 64),
        ];
        let end = End {
            namespace: &host,
            interface: "eth0",
            addresses: &addresses,
            queues: 2,
        };
        switch.plug(&end).unwrap();
        (host, addresses.map(|(address, _)| address))
    });
    let [(one, ones), (two, twos)] = &hosts;
    for (from, to) in ones.iter().zip(twos) {
        let listener = two.run(|| UdpSocket::bind((*to, 9000)).unwrap()).unwrap();
        listener
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let sender = one.run(|| UdpSocket::bind((*from, 0)).unwrap()).unwrap();
        sender.send_to(b"here", SocketAddr::new(*to, 9000)).unwrap();
        let mut packet = [0; 16];
        let (bytes, source) = listener.recv_from(&mut packet).unwrap();
        assert_eq!((&packet[..bytes], source.ip()), (&b"here"[..], *from));
    }
    let outside = UdpSocket::bind((ones[0], 0));
    assert!(outside.is_err(), "the test itself stays where it was");
    let paths = hosts.each_ref().map(|(host, _)| host.path());
    assert!(paths.iter().all(|path| path.exists()));
    drop(hosts);
    assert!(paths.iter().all(|path| !path.exists()));
}
