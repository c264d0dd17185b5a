//! What a user should know of the gateway, once, in words.

use std::fmt;

use crate::event::{Event, Less};
use crate::transfer::CHUNK_BYTES;

/// Something that the user should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The gateway says that it leaves the network.
    Leaving {
        /// The last epoch in which it serves.
        epoch: u32,
    },
    /// The gateway grants less than it was asked for.
    Less(Less),
    /// A reserve is used in place of the gateway.
    Reserve,
    /// The gateway is used again.
    Guard,
}

impl Notice {
    pub(super) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::GatewayLeaving { epoch } => Some(Self::Leaving { epoch: *epoch }),
            Event::GrantedLess(less) => Some(Self::Less(*less)),
            Event::GatewayMoved { to_reserve: true } => Some(Self::Reserve),
            Event::GatewayMoved { to_reserve: false } => Some(Self::Guard),
            _ => None,
        }
    }

    /// A word for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Leaving { .. } => "gateway-leaving",
            Self::Less(_) => "gateway-grants-less",
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
            Self::Less(less) => write!(f, "{less}"),
            Self::Reserve => write!(
                f,
                "the gateway has not served for an hour, or has left the network: a reserve is used until it is back"
            ),
            Self::Guard => write!(f, "the gateway serves again and is used again"),
        }
    }
}

impl fmt::Display for Less {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            granted_pps,
            asked_pps,
        } = self;
        // A packet brings a chunk at most.
        let bytes_s = u64::from(*granted_pps) * CHUNK_BYTES as u64;
        let lost = match u64::from(*granted_pps) * 5 < u64::from(*asked_pps) * 4 {
            true => ", and it takes no more than that: part of what is sent is lost and sent again",
            false => "",
        };
        write!(
            f,
            "the gateway grants {granted_pps} packets a second of the {asked_pps} that this network's clients ask for: files \
             arrive with {} kB a second at most{lost}. Another gateway (fog init --gateway, which changes the address) may \
             grant more",
            bytes_s.div_ceil(1_000)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_granted_less_is_told_what_that_means() {
        let less = |granted_pps| {
            let asked_pps = 250;
            let event = Event::GrantedLess(Less {
                granted_pps,
                asked_pps,
            });
            Notice::of(&event).unwrap().to_string()
        };
        // 200 slots a second, and what is granted is enough for them or not.
        for (granted_pps, rate, is_lost) in [(200, "168 kB", false), (199, "168 kB", true)] {
            let text = less(granted_pps);
            println!("{text}");
            assert!(text.contains(&format!("{granted_pps} packets a second of the 250")));
            assert!(text.contains(rate));
            assert_eq!(text.contains("part of what is sent is lost"), is_lost);
        }
    }
}
