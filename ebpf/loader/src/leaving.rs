//! What the node here says of itself, and what an operator wants of it: to leave the network.

use std::io;

use handover::protocol::{NodeState, Reply};
use handover::status::NodeStatus;

use super::state::ConnectionId;
use crate::error::LoaderError;

/// Who wants to hear how the node is; nothing when it is gone.
pub(super) type Heard = Box<dyn FnMut(Option<NodeStatus>) + Send>;

/// The one node beside this loader, as far as that is concerned. All of it ends with the node's connection.
#[derive(Default)]
pub(super) struct Leaving {
    node: Option<(ConnectionId, NodeState)>,
    is_asked: bool,
    heard: Option<Heard>,
}

impl Leaving {
    /// Has `heard` called with whatever the node says of itself.
    pub fn tell(&mut self, heard: Heard) {
        self.heard = Some(heard);
    }

    /// The node says how it is; the answer says what is wanted of it.
    pub fn report(&mut self, connection: ConnectionId, state: NodeState) -> Reply {
        self.node = Some((connection, state));
        let drain = self.is_asked;
        Reply::Reported { drain }
    }

    /// The node describes itself: no longer than it may, and not before it has said how it is.
    pub fn describe(
        &mut self,
        connection: ConnectionId,
        status: NodeStatus,
    ) -> Result<Reply, LoaderError> {
        if !status.is_bounded() {
            return Err(LoaderError::Malformed(io::ErrorKind::InvalidData.into()));
        }
        if self.is_the_node(connection)
            && let Some(heard) = &mut self.heard
        {
            heard(Some(status));
        }
        Ok(Reply::Done)
    }

    /// An operator wants the node to leave. Nothing is wanted of who is not there.
    pub fn drain(&mut self) -> Reply {
        self.is_asked = self.node.is_some();
        self.node()
    }

    /// An operator asks how the node is.
    pub fn node(&self) -> Reply {
        let state = self.node.map(|(_, state)| state);
        Reply::Draining { state }
    }

    /// A connection has ended.
    pub fn ended(&mut self, connection: ConnectionId) {
        if self.is_the_node(connection) {
            self.node = None;
            self.is_asked = false;
            if let Some(heard) = &mut self.heard {
                heard(None);
            }
        }
    }

    fn is_the_node(&self, connection: ConnectionId) -> bool {
        self.node.is_some_and(|(node, _)| node == connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_node_hears_that_it_is_to_leave_and_its_successor_does_not() {
        let mut leaving = Leaving::default();
        assert_eq!(leaving.drain(), Reply::Draining { state: None });
        let heard = |drain| Reply::Reported { drain };
        assert_eq!(leaving.report(7, NodeState::Ready), heard(false));
        let state = Some(NodeState::Ready);
        assert_eq!(leaving.drain(), Reply::Draining { state });
        // An operator's connection ends all the time.
        leaving.ended(8);
        assert_eq!(leaving.report(7, NodeState::Draining), heard(true));
        leaving.ended(7);
        assert_eq!(leaving.report(9, NodeState::Ready), heard(false));
        // Nor does it because an operator looks how far the first one is.
        assert_eq!(leaving.node(), Reply::Draining { state });
        assert_eq!(leaving.report(9, NodeState::Ready), heard(false));
    }

    #[test]
    fn what_the_node_says_is_passed_on_until_its_connection_ends_and_what_is_too_long_is_not() {
        let (say, said) = channel();
        let mut leaving = Leaving::default();
        leaving.tell(Box::new(move |status| say.send(status).unwrap()));
        let status = NodeStatus {
            port: "plain".to_owned(),
            ..NodeStatus::default()
        };
        leaving.report(7, NodeState::Ready);
        assert_eq!(leaving.describe(7, status.clone()).unwrap(), Reply::Done);
        assert_eq!(said.try_recv().unwrap(), Some(status.clone()));
        // Two nodes, one of them leaving its place: the one that reported last is told of.
        assert_eq!(leaving.describe(6, status.clone()).unwrap(), Reply::Done);
        let long = NodeStatus {
            port: "x".repeat(1_000),
            ..status
        };
        let refused = leaving.describe(7, long).unwrap_err();
        assert!(matches!(refused, LoaderError::Malformed(_)), "{refused}");
        leaving.ended(6);
        assert!(said.try_recv().is_err());
        leaving.ended(7);
        assert_eq!(said.try_recv().unwrap(), None);
    }
}
