//! The port suite over AF_XDP: the cases of `port_suite` in network namespaces with a veth cable between them, native
//! and generic, IPv4 and IPv6; and what holds for this port alone. Needs root, iproute2 and a kernel with BPF:
//! `cargo test -p mixnode --test xsk_suite -- --ignored`.

mod ports;
#[path = "ports/xsk.rs"]
mod xsk;

macro_rules! suite {
    ($([$name:ident $mode:ident $ipv6:literal])* ; $cases:tt) => {
        $(suite! { @wire $name $mode $ipv6 $cases })*
    };
    (@wire $name:ident $mode:ident $ipv6:literal [$($case:ident)*]) => {
        mod $name {
            use crate::ports::cases;
            use crate::xsk::{Wire, Wiring};
            use mixnode::frontend::protocol::Mode;
            $(#[test]
            #[ignore = "needs root"]
            fn $case() {
                cases::$case(&Wire::new(Wiring::new(Mode::$mode, $ipv6)));
            })*
        }
    };
}

every_case! { suite [
    [native_ipv4 Native false]
    [native_ipv6 Native true]
    [generic_ipv4 Generic false]
    [generic_ipv6 Generic true]
] }
