//! What the node here says of itself, and what an operator wants of it: to leave the network.

use handover::protocol::{NodeState, Reply};

use super::state::ConnectionId;

/// The one node beside this loader, as far as that is concerned. All of it ends with the node's connection.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    node: Option<(ConnectionId, NodeState)>,
    is_asked: bool,
}

impl Leaving {
    /// The node says how it is; the answer says what is wanted of it.
    pub fn report(&mut self, connection: ConnectionId, state: NodeState) -> Reply {
        self.node = Some((connection, state));
        let drain = self.is_asked;
        Reply::Reported { drain }
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
        if self.node.is_some_and(|(node, _)| node == connection) {
            *self = Leaving::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
