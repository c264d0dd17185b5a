//! What happened: what has changed from one look to the next, for who comes later.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::shapes::{Epochs, Event, Level, Seen, State, Status};

/// Events that are remembered.
const EVENTS: usize = 50;

/// A warning that is gone for a shorter time is not over: at an epoch's turn the node begins to judge anew.
const OVER_MS: u64 = 30_000;

/// Where it is kept.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Past>);

impl Log {
    /// What happened, the newest last, and what is news in this. `who` is what the status is of.
    pub(super) fn note(
        &self,
        who: &str,
        status: &Status,
        epochs: &Epochs,
        nodes: &[Seen],
    ) -> Vec<Event> {
        let mut past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        past.note(who, status, epochs);
        past.note_nodes(status.unix_ms, nodes);
        past.events.iter().cloned().collect()
    }
}

/// How it was when it was looked at last, and what has changed since the start.
#[derive(Debug, Default)]
struct Past {
    last: Option<(State, u32, Option<u32>)>,
    /// The others whose state is known, by name.
    nodes: HashMap<String, State>,
    /// What there is a warning of, and since when there is none of it.
    warned: BTreeMap<String, Option<u64>>,
    events: VecDeque<Event>,
}

impl Past {
    fn push(&mut self, unix_ms: u64, level: Level, text: String) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        let event = Event {
            unix_ms,
            level,
            text,
        };
        self.events.push_back(event);
    }

    fn note_nodes(&mut self, unix_ms: u64, nodes: &[Seen]) {
        let others = nodes.iter().filter(|node| !node.own);
        let known = others.filter(|node| node.state != State::Unknown);
        let now: HashMap<&str, &Seen> = known.map(|node| (node.identity.as_str(), node)).collect();
        // Who is listed no more is forgotten.
        self.nodes.retain(|name, _| now.contains_key(name.as_str()));
        for node in now.into_values() {
            let before = self.nodes.insert(node.identity.clone(), node.state);
            if before.is_some_and(|before| before != node.state) {
                let text = format!("{} is {}", node.operator, node.state.words());
                self.push(unix_ms, level(node.state), text);
            }
        }
    }

    fn note(&mut self, who: &str, status: &Status, epochs: &Epochs) {
        let now = (status.state, epochs.now, epochs.in_force);
        let warned: BTreeSet<String> = status.warnings.iter().map(|said| subject(said)).collect();
        let (mut begun, mut over) = (Vec::new(), Vec::new());
        // Whoever says nothing takes back nothing.
        if !matches!(status.state, State::Down | State::Unknown) {
            self.warned.retain(|warning, gone_ms| {
                if warned.contains(warning) {
                    *gone_ms = None;
                    return true;
                }
                let since_ms = *gone_ms.get_or_insert(status.unix_ms);
                let is_over = status.unix_ms.saturating_sub(since_ms) >= OVER_MS;
                if is_over {
                    over.push(warning.clone());
                }
                !is_over
            });
            for warning in warned {
                if self.warned.insert(warning.clone(), None).is_none() {
                    begun.push(warning);
                }
            }
        }
        let Some((state, epoch, in_force)) = self.last.replace(now) else {
            return;
        };
        let mut happened = |level, text| self.push(status.unix_ms, level, text);
        if epoch != epochs.now {
            happened(Level::Info, format!("epoch {} begins", epochs.now));
        }
        if in_force != epochs.in_force {
            match epochs.in_force {
                Some(epoch) => happened(
                    Level::Info,
                    format!("the document of epoch {epoch} is in force"),
                ),
                None => happened(Level::Warning, "no document is in force".to_owned()),
            }
        }
        if state != status.state {
            let why = status.not_ready.first();
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            let text = format!("{who} is {}{why}", status.state.words());
            happened(level(status.state), text);
        }
        for warning in begun {
            happened(Level::Warning, warning);
        }
        for warning in over {
            happened(Level::Info, format!("no longer: {warning}"));
        }
    }
}

/// What a warning is of, without figures, reasons and remedies, which change from one second to the next.
fn subject(warning: &str) -> String {
    let subject = warning.split_once(':').map(|(subject, _)| subject);
    subject.unwrap_or(warning).to_owned()
}

fn level(state: State) -> Level {
    match state {
        State::Ready => Level::Info,
        State::Down => Level::Error,
        _ => Level::Warning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_an_event_and_no_more_than_fifty_are_kept() {
        let past = Log::default();
        let status = |state| Status {
            state,
            not_ready: vec!["start it".to_owned()],
            ..Status::unknown(7)
        };
        let epochs = |now: u32, in_force| Epochs {
            now,
            starts_unix_ms: 0,
            ends_unix_ms: 0,
            in_force,
            epochs: Vec::new(),
        };
        let first = past.note("the node", &status(State::Ready), &epochs(1, Some(1)), &[]);
        assert!(first.is_empty(), "how it is at first is no event");
        let second = past.note("the node", &status(State::Down), &epochs(2, None), &[]);
        let said: Vec<(Level, &str)> = second
            .iter()
            .map(|event| (event.level, event.text.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                (Level::Info, "epoch 2 begins"),
                (Level::Warning, "no document is in force"),
                (Level::Error, "the node is down: start it"),
            ]
        );
        assert_eq!(second[0].unix_ms, 7);
        for epoch in 3..200 {
            past.note("the node", &status(State::Down), &epochs(epoch, None), &[]);
        }
        let last = past.note("the node", &status(State::Down), &epochs(199, None), &[]);
        assert_eq!(
            (last.len(), last[49].text.as_str()),
            (EVENTS, "epoch 199 begins")
        );
    }

    #[test]
    fn a_warning_that_begins_or_ends_is_an_event_and_a_silent_node_ends_none() {
        let past = Log::default();
        let epochs = Epochs {
            now: 1,
            starts_unix_ms: 0,
            ends_unix_ms: 0,
            in_force: Some(1),
            epochs: Vec::new(),
        };
        let at = |unix_ms, state, warnings: &[&str]| -> Vec<(Level, String)> {
            let status = Status {
                state,
                warnings: warnings.iter().map(|text| (*text).to_owned()).collect(),
                ..Status::unknown(unix_ms)
            };
            let events = past.note("the node", &status, &epochs, &[]);
            events
                .into_iter()
                .map(|one| (one.level, one.text))
                .collect()
        };
        let texts = |state, warnings: &[&str]| at(7, state, warnings);
        assert!(texts(State::Ready, &[]).is_empty());
        let begun = (Level::Warning, "n-1 suspected".to_owned());
        let first = texts(State::Ready, &["n-1 suspected: 2 of 3 are silent"]);
        assert_eq!(first, std::slice::from_ref(&begun));
        let same = texts(State::Ready, &["n-1 suspected: 3 of 3 are silent"]);
        assert_eq!(same, first, "other figures are no news");
        assert_eq!(texts(State::Down, &[])[0], begun);
        assert_eq!(texts(State::Down, &[]).len(), 2, "it is down, no more");
        let over = (Level::Info, "no longer: n-1 suspected".to_owned());
        let again = ["n-1 suspected: 3 of 3 are silent"];
        assert!(!at(1_000, State::Ready, &[]).contains(&over));
        let turn = at(20_000, State::Ready, &again);
        assert!(turn.iter().filter(|event| **event == begun).count() == 1);
        assert!(
            !at(40_000, State::Ready, &[]).contains(&over),
            "an epoch's turn"
        );
        assert_eq!(at(70_000, State::Ready, &[]).pop(), Some(over));
    }
}
