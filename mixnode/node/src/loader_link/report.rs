//! What the loader is told of the node once a second, and what it wants of it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use handover::protocol::NodeState;

/// Between the control loop, which knows, and the loader's thread, which talks.
#[derive(Debug)]
pub struct Report {
    state: Mutex<NodeState>,
    drain: AtomicBool,
}

impl Default for Report {
    fn default() -> Report {
        Report {
            state: Mutex::new(NodeState::Waiting),
            drain: AtomicBool::new(false),
        }
    }
}

impl Report {
    /// How the node is.
    pub fn state(&self) -> NodeState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how it is from now on.
    pub fn set_state(&self, state: NodeState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Whether an operator has wanted the node to leave the network.
    pub fn is_drain_wanted(&self) -> bool {
        self.drain.load(Ordering::Acquire)
    }

    /// One does.
    pub fn want_drain(&self) {
        self.drain.store(true, Ordering::Release);
    }
}
