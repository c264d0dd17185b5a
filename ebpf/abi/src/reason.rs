//! Why a packet went where it went. Every packet counts under exactly one reason, so the sum of
//! the counters is the number of packets the program has seen.

/// What the program does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// On to the kernel's network stack.
    Pass,
    /// Dropped before the kernel allocates anything for it.
    Drop,
    /// Into the AF_XDP socket of its queue.
    Redirect,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $action:ident, $name:literal;)*) => {
        /// Why the program passed, dropped or steered a packet. The number is the counter's index.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Reason { $($(#[$doc])* $variant = $number,)* }

        impl Reason {
            /// Every reason, in the order of its counter.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What happens to the packet.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self { $(Self::$variant => Action::$action,)* }
            }

            /// The name in statistics and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// The program is loaded but has no port yet.
    Unconfigured = 0, Pass, "unconfigured";
    /// The headers end early or contradict themselves, before a port could be read.
    Truncated = 1, Pass, "truncated";
    /// Neither IPv4 nor IPv6: ARP and the like.
    NotIp = 2, Pass, "not_ip";
    /// More than two VLAN tags.
    ManyTags = 3, Pass, "many_tags";
    /// Of a VLAN: the node's address is the interface's own.
    OtherVlan = 4, Pass, "other_vlan";
    /// Another protocol over IP.
    NotUdp = 5, Pass, "not_udp";
    /// A fragment other than the first: it has no port. Its first one is dropped if it was ours,
    /// so the kernel never puts such a datagram together.
    LaterFragment = 6, Pass, "later_fragment";
    /// UDP for another port.
    OtherPort = 7, Pass, "other_port";
    /// For our port at another address than the node's.
    OtherHost = 8, Pass, "other_host";
    /// More IPv6 extension headers than the program follows, so that nobody knows whose port is behind them. The kernel
    /// would follow them to the node's own socket, past every limit.
    ManyExtensions = 9, Drop, "many_extensions";
    /// Ours, but the first fragment of something.
    Fragment = 10, Drop, "fragment";
    /// Ours, but with IPv4 options or IPv6 extension headers.
    Options = 11, Drop, "options";
    /// Ours, but not a datagram of exactly 1,232 bytes, or cut short.
    WrongSize = 12, Drop, "wrong_size";
    /// Ours, but of a type the link protocol does not have.
    UnknownType = 13, Drop, "unknown_type";
    /// A handshake datagram whose zero bytes are not.
    Reserved = 14, Drop, "reserved";
    /// No session has this receiver index.
    UnknownIndex = 15, Drop, "unknown_index";
    /// The source is over its rate.
    SourceRate = 16, Drop, "source_rate";
    /// For a session that is not the source's, or nobody's yet, and the source is over the rate of strangers.
    StrangerRate = 17, Drop, "stranger_rate";
    /// A node of the consensus is over its rate of handshakes.
    HandshakeMemberRate = 18, Drop, "handshake_member_rate";
    /// The source is over its rate of handshakes.
    HandshakeSourceRate = 19, Drop, "handshake_source_rate";
    /// This CPU is over the rate of handshakes with a mac2 of all sources together.
    HandshakeCookieRate = 20, Drop, "handshake_cookie_rate";
    /// This CPU is over the rate of handshakes without a mac2 of all sources together.
    HandshakeRate = 21, Drop, "handshake_rate";
    /// Ours and in order, but its queue has no AF_XDP socket: the kernel's UDP socket gets it.
    KernelSocket = 22, Pass, "kernel_socket";
    /// Ours and in order, into the AF_XDP socket of its queue.
    Steered = 23, Redirect, "steered";
}

/// Number of reasons.
pub const REASONS: usize = Reason::ALL.len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_index_of_its_own_counter_and_no_two_share_a_name() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            for other in &Reason::ALL[..index] {
                assert_ne!(reason.name(), other.name());
            }
        }
    }
}
