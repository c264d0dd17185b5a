//! What the loader is told of the node once a second, and what it wants of it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use handover::protocol::NodeState;
use handover::status::NodeStatus;

/// Between the control loop, which knows, and the loader's thread, which talks.
#[derive(Debug)]
pub struct Report {
    state: Mutex<NodeState>,
    status: Mutex<Option<Box<NodeStatus>>>,
    drain: AtomicBool,
}

impl Default for Report {
    fn default() -> Report {
        Report {
            state: Mutex::new(NodeState::Waiting),
            status: Mutex::new(None),
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

    /// What is to be said of the node beside that, and was not yet.
    pub fn take_status(&self) -> Option<Box<NodeStatus>> {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.take()
    }

    /// Has this said of it.
    pub fn set_status(&self, said: NodeStatus) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        *status = Some(Box::new(said));
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
