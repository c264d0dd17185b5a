//! What the node says of itself on its metrics page: where nothing else is known of it, because it has no connection to the
//! loader.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::shapes::{State, Totals};
use crate::http::client::{Answered, Ask, AskError};

/// Largest page.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// A node on the same host that takes longer counts as down.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) state: State,
    pub(super) not_ready: Vec<String>,
    pub(super) port: Option<String>,
    pub(super) keys_origin: Option<String>,
    pub(super) counters: Option<Totals>,
}

impl Page {
    /// Nothing but a state and its reason.
    pub(super) fn bare(state: State, why: &str) -> Page {
        Page {
            state,
            not_ready: vec![why.to_owned()],
            port: None,
            keys_origin: None,
            counters: None,
        }
    }
}

/// The page itself, as it is.
pub(super) async fn fetch(node: SocketAddr) -> Result<Bytes, AskError> {
    ask(node, "/metrics").await.map(|answered| answered.body)
}

async fn ask(node: SocketAddr, path: &str) -> Result<Answered, AskError> {
    let ask = Ask {
        to: node,
        path: path.to_owned(),
        body: None,
        held: None,
        from: None,
        bytes_max: PAGE_BYTES_MAX,
        within: PATIENCE,
    };
    ask.run().await
}

/// How the node fares.
pub(super) async fn look(node: Option<SocketAddr>) -> Page {
    let Some(node) = node else {
        return Page::bare(
            State::Unknown,
            "nothing is known of the node's process: give it [keys] vault = true, so that it speaks to mixctld, or name its \
             [metrics] listen as [http] node_metrics",
        );
    };
    let Ok(page) = fetch(node).await else {
        return Page::bare(
            State::Down,
            "the node's metrics page does not answer: is mixnode running, with that [metrics] listen?",
        );
    };
    let page = String::from_utf8_lossy(&page);
    let (state, not_ready) = match ask(node, "/readyz").await {
        Ok(_) => (State::Ready, Vec::new()),
        Err(AskError::Refused { word, .. }) if word.contains("is stopping") => {
            (State::Draining, vec![word])
        }
        Err(AskError::Refused { word, .. }) => (State::Waiting, vec![word]),
        Err(_) => (
            State::Down,
            vec!["the node does not answer any more".to_owned()],
        ),
    };
    Page {
        state,
        not_ready,
        port: label(&page, "port"),
        keys_origin: label(&page, "keys"),
        counters: Some(Totals {
            received: sum(&page, "mixnode_received_total"),
            transmitted: sum(&page, "mixnode_transmitted_total"),
            rejected: sum(&page, "mixnode_rejected_total"),
            held: sum(&page, "mixnode_held_frames"),
            sessions: sum(&page, "mixnode_sessions"),
            clients: sum(&page, "mixnode_clients"),
            unconserved: sum(&page, "mixnode_unconserved_frames"),
        }),
    }
}

/// The samples of a family added up; those that are no whole number count as none.
fn sum(page: &str, family: &str) -> u64 {
    let samples = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(family)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.trim().parse::<u64>().ok()
    });
    samples.fold(0, u64::saturating_add)
}

/// A label of `mixnode_info`: a word of letters.
fn label(page: &str, name: &str) -> Option<String> {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("mixnode_info{"))?;
    let (_, rest) = line.split_once(&format!("{name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP mixnode_info Port.\nmixnode_info{port=\"uring\",lanes=\"avx2\",keys=\"returned\",version=\"0.1\"} 1\n\
        mixnode_received_total 17\nmixnode_received_bytes_total 20944\n\
        mixnode_rejected_total{reason=\"mac\"} 2\nmixnode_rejected_total{reason=\"a } b\"} 3\nmixnode_held_frames 1.5\n";

    #[test]
    fn samples_of_a_family_are_added_and_of_no_other() {
        assert_eq!(sum(PAGE, "mixnode_received_total"), 17);
        assert_eq!(sum(PAGE, "mixnode_rejected_total"), 5);
        assert_eq!(sum(PAGE, "mixnode_held_frames"), 0);
        assert_eq!(sum(PAGE, "mixnode_received"), 0);
    }

    #[test]
    fn a_label_is_read_and_what_is_no_word_is_not() {
        assert_eq!(label(PAGE, "port").as_deref(), Some("uring"));
        assert_eq!(label(PAGE, "keys").as_deref(), Some("returned"));
        assert_eq!(label(PAGE, "version"), None, "dots");
        assert_eq!(label(PAGE, "mode"), None);
        assert_eq!(label("", "port"), None);
    }
}
