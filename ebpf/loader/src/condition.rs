//! What becomes of an interface while the program is on it.

use super::explain;
use super::interface::Interface;
use crate::error::LoaderError;

/// An attached interface as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Datagrams come and go.
    Well,
    /// Datagrams are larger than its MTU, which is in bytes: the kernel drops them and tells nobody.
    TooSmall(u32),
    /// It is down.
    Down,
    /// There is none of its number any more.
    Gone,
}

impl Condition {
    /// Of the interface that has the attached one's number, if there is one.
    pub fn of(found: Option<&Interface>) -> Condition {
        match found {
            None => Condition::Gone,
            Some(found) if !found.up => Condition::Down,
            Some(found) if found.mtu < explain::MTU_MIN => Condition::TooSmall(found.mtu),
            Some(_) => Condition::Well,
        }
    }

    /// What is wrong, and its remedy; nothing if all is well.
    pub fn fault(self, name: &str) -> Option<String> {
        let interface = name.to_owned();
        let fault = match self {
            Condition::Well => return None,
            Condition::TooSmall(mtu) => LoaderError::MtuTooSmall {
                interface,
                mtu,
                least: explain::MTU_MIN,
            },
            Condition::Down => LoaderError::InterfaceDown { interface },
            Condition::Gone => LoaderError::AttachedGone { interface },
        };
        Some(fault.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_datagrams_from_an_interface_is_told_with_its_remedy() {
        let found = |up, mtu| Interface {
            index: 2,
            name: "eth0".to_owned(),
            mac: Some([2; 6]),
            mtu,
            up,
            aggregate: false,
            program: None,
        };
        for (found, remedy) in [
            (Some(found(true, 1_200)), Some("mtu 1500")),
            (Some(found(true, 1_279)), Some("mtu 1500")),
            (Some(found(true, 1_280)), None),
            (Some(found(false, 1_500)), Some("ip link set dev eth0 up")),
            (None, Some("attach")),
        ] {
            let fault = Condition::of(found.as_ref()).fault("eth0");
            match remedy {
                Some(remedy) => assert!(fault.unwrap().contains(remedy)),
                None => assert_eq!(fault, None),
            }
        }
    }
}
