//! A `mixctld` that loads no program: whose keys it keeps.

use std::process::Command;

use handover::channel::Channel;
use handover::protocol::{Reply, Request};

use crate::daemon::{Daemon, NOBODY, STRANGER, as_user, mixctld};
use crate::world::World;

#[test]
#[ignore = "needs root"]
fn without_xdp_keys_are_kept_for_the_user_that_keys_names_and_for_no_other() {
    let world = World::bare(1);
    let file = world.folder().join("mixctld.toml");
    let user = format!("{}:{}", NOBODY.uid, NOBODY.gid);
    std::fs::write(&file, format!("[keys]\nnode_user = {user:?}\n")).unwrap();
    let mut command = Command::new(mixctld());
    command.arg("--config").arg(&file);
    let _daemon = Daemon::spawn(&world, command.arg("--socket").arg(world.socket()));
    let socket = world.socket();
    let refused = as_user(STRANGER, || Channel::connect(&socket).map(drop));
    assert!(refused.is_err(), "a stranger is let in");
    let reply = as_user(NOBODY, || {
        let node = Channel::connect(&socket).unwrap();
        let identity = [7; 32];
        node.send(&Request::Vault { identity }, &[]).unwrap();
        node.receive().unwrap().unwrap().0
    });
    assert!(matches!(reply, Reply::Vault { .. }), "{reply:?}");
}
