//! What a user should know of the gateway, once, in words.

use std::fmt;

use crate::event::Event;

/// Something that the user should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The gateway says that it leaves the network.
    Leaving {
        /// The last epoch in which it serves.
        epoch: u32,
    },
    /// A reserve is used in place of the gateway.
    Reserve,
    /// The gateway is used again.
    Guard,
}

impl Notice {
    pub(super) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::GatewayLeaving { epoch } => Some(Self::Leaving { epoch: *epoch }),
            Event::GatewayMoved { to_reserve: true } => Some(Self::Reserve),
            Event::GatewayMoved { to_reserve: false } => Some(Self::Guard),
            _ => None,
        }
    }

    /// A word for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Leaving { .. } => "gateway-leaving",
            Self::Reserve => "gateway-reserve",
            Self::Guard => "gateway-back",
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaving { epoch } => write!(
                f,
                "the gateway says that it leaves the network after epoch {epoch}: who receives chooses another by then \
                 with fog init (the address changes)"
            ),
            Self::Reserve => write!(
                f,
                "the gateway has not served for an hour, or has left the network: a reserve is used until it is back"
            ),
            Self::Guard => write!(f, "the gateway serves again and is used again"),
        }
    }
}
