//! What people read. From 40 columns on no line is wider than the screen; words that do not fit end in "…".

use control::api::shapes::{Epochs, Node, Nodes, State, Status};
use directory::{Role, WAITING};
use program::visible;

/// The narrowest screen that is laid out for.
pub(super) const COLUMNS_MIN: usize = 40;
/// Width of a fact's name.
const NAME: usize = 9;
/// Characters of a digest or an identity that tell it from the others.
const SHORT: usize = 16;

/// Cuts a word at `width`.
pub(super) fn cut(word: &str, width: usize) -> String {
    if word.chars().count() <= width {
        return word.to_owned();
    }
    let kept: String = word.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Breaks a text into lines of `width` at its spaces; those after the first begin with `indent` spaces.
pub(super) fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let first = lines.len() == 1;
        let Some(line) = lines.last_mut() else {
            break;
        };
        let length = line.chars().count();
        let is_begun = length > if first { 0 } else { indent };
        if !is_begun {
            line.push_str(word);
        } else if length + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(format!("{:indent$}{word}", ""));
        }
    }
    lines.iter().map(|line| cut(line, width)).collect()
}

/// Lines of a name and what is said of it.
pub(super) struct Facts {
    pub(super) lines: Vec<String>,
    columns: usize,
}

impl Facts {
    pub(super) fn new(columns: usize) -> Facts {
        Facts {
            lines: Vec::new(),
            columns,
        }
    }

    pub(super) fn say(&mut self, name: &str, what: &str) {
        // Some of it a node said, which may be anybody's by now.
        let what = visible(what.as_bytes());
        let width = self.columns.saturating_sub(NAME + 1);
        for (at, line) in wrap(&what, width, 0).into_iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            self.lines.push(format!("{name:<NAME$} {line}"));
        }
    }
}

/// A duration in its two largest units.
fn span(ms: u64) -> String {
    let s = ms / 1_000;
    match (s / 86_400, s / 3_600, s / 60) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, min) => format!("{min} min {} s", s % 60),
        (0, h, min) => format!("{h} h {} min", min % 60),
        (days, h, _) => format!("{days} d {} h", h % 24),
    }
}

fn plural(count: usize, one: &str) -> String {
    match (count, one) {
        (1, _) => format!("1 {one}"),
        (_, "mix") => format!("{count} mixes"),
        _ => format!("{count} {one}s"),
    }
}

/// How the node fares.
pub fn status(status: &Status, columns: usize) -> String {
    let mut facts = Facts::new(columns.max(COLUMNS_MIN));
    let state = match status.state {
        State::Ready => "ready: it would forward a packet now",
        State::Waiting => "not ready",
        State::Draining => "draining",
        State::Down => "down",
        State::Stale => "stale: no document for two epochs",
        State::Unknown => "unknown",
    };
    facts.say("state", state);
    for why in &status.not_ready {
        facts.say("", why);
    }
    if let Some(node) = &status.node {
        let place = match (node.listed, node.layer) {
            (false, _) => "not listed".to_owned(),
            (true, None) => "listed, carries nothing".to_owned(),
            (true, Some(0)) => "listed as a gateway".to_owned(),
            (true, Some(layer)) => format!("listed in layer {layer}"),
        };
        facts.say(
            "node",
            &format!("{} of {}, {place}", node.role, node.operator),
        );
        facts.say("", &short(&node.identity));
        if let Some(port) = &node.port {
            facts.say("port", port);
        }
        if let Some(origin) = &node.keys_origin {
            let what = match origin.as_str() {
                "new" => "new: made at the node's last start",
                "kept" => "kept by mixctld over the node's last restart",
                "returned" => {
                    "returned by the service manager or the node over mixctld's last restart"
                }
                other => other,
            };
            facts.say("keys", what);
        }
    }
    let left_ms = status.ends_unix_ms.saturating_sub(status.unix_ms);
    facts.say(
        "epoch",
        &format!("{}, ends in {}", status.epoch, span(left_ms)),
    );
    let document = status.document.as_ref().map(|held| {
        let carried = if held.epoch < status.epoch {
            ", carried on"
        } else {
            ""
        };
        format!(
            "of epoch {}{carried}, {}, in force for {}, {}",
            held.epoch,
            plural(held.nodes, "node"),
            span(held.age_ms),
            short(&held.digest)
        )
    });
    facts.say("document", document.as_deref().unwrap_or("none"));
    if let Some(counters) = &status.counters {
        let counted = format!(
            "received {}, sent {}, dropped {}, held {}, sessions {}, clients {}",
            counters.received,
            counters.transmitted,
            counters.rejected,
            counters.held,
            counters.sessions,
            counters.clients
        );
        facts.say("packets", &counted);
        if counters.unconserved > 0 {
            let defect = format!(
                "{} frames are not accounted for: report this defect with the node's metrics",
                counters.unconserved
            );
            facts.say("defect", &defect);
        }
    }
    if let Some(rates) = &status.rates {
        let a_second = format!(
            "received {}, sent {}, dropped {}",
            pace(rates.received),
            pace(rates.transmitted),
            pace(rates.rejected)
        );
        facts.say("rates", &a_second);
    }
    if let Some(said) = &status.anonymity {
        let bits = |bits: Option<f64>| bits.map_or("–".to_owned(), |bits| format!("{bits:.1}"));
        let figure = format!(
            "{} bits, {} over five minutes; without the largest neighbour {} and {}; the floor is {:.1}",
            bits(said.bits),
            bits(said.mean_bits),
            bits(said.bits_without_largest),
            bits(said.mean_bits_without_largest),
            said.floor
        );
        facts.say("anonymity", &figure);
    }
    for warning in &status.warnings {
        facts.say("warning", warning);
    }
    facts.say("network", &short(&status.network));
    facts.say("mixctld", &status.version);
    facts.lines.join("\n")
}

/// A rate with as many digits as tell something.
pub(super) fn pace(per_s: f64) -> String {
    let digits = usize::from(per_s > 0.0 && per_s < 10.0);
    format!("{per_s:.digits$}/s")
}

fn short(hex: &str) -> String {
    hex.chars().take(2 * SHORT).collect()
}

/// The nodes of the document in force; `own` is the identity of the node here.
pub fn nodes(document: &Nodes, own: Option<&str>, columns: usize) -> String {
    let columns = columns.max(COLUMNS_MIN);
    let in_place = |test: &dyn Fn(&&Node) -> bool| document.nodes.iter().filter(test).count();
    let gateways = in_place(&|node| node.layer == 0);
    let waiting = in_place(&|node| node.layer == WAITING);
    let mixes = document.nodes.len() - gateways - waiting;
    let head = format!(
        "epoch {}: {}, {} in layers, {waiting} waiting",
        document.epoch,
        plural(gateways, "gateway"),
        plural(mixes, "mix")
    );
    let mut lines = wrap(&head, columns, 2);
    // Each column that finds room takes it from the operator's, which has the rest.
    let mut rest = columns.saturating_sub(5 + 2 + 8 + 2);
    let mut fits = |width: usize, least: usize| {
        let fits = rest >= width + 2 + least;
        if fits {
            rest -= width + 2;
        }
        fits
    };
    let (weight, role) = (fits(10, 16), fits(7, 16));
    let (address, identity) = (fits(21, 16), fits(SHORT, 16));
    let operator = rest.min(64);
    let row = |index: &str, place: &str, of: [&str; 5]| {
        let mut line = format!(
            "{index:>5}  {place:<8}  {:<operator$}",
            cut(of[0], operator)
        );
        for (fits, text) in [
            (weight, format!("  {:>10}", of[1])),
            (role, format!("  {:<7}", of[2])),
            (address, format!("  {:<21}", cut(of[3], 21))),
            (identity, format!("  {:<SHORT$}", of[4])),
        ] {
            if fits {
                line.push_str(&text);
            }
        }
        line.trim_end().to_owned()
    };
    lines.push(row(
        "index",
        "place",
        ["operator", "weight", "role", "address", "identity"],
    ));
    for node in &document.nodes {
        let mark = if own == Some(node.identity.as_str()) {
            "*"
        } else {
            ""
        };
        let address = node.addresses.first().map(ToString::to_string);
        let identity: String = node.identity.chars().take(SHORT).collect();
        let of = [
            node.operator.as_str(),
            &node.weight.to_string(),
            &node.role,
            &address.unwrap_or_default(),
            &identity,
        ];
        lines.push(row(&format!("{mark}{}", node.index), &node.place(), of));
    }
    let unproved = in_place(&|node| {
        node.layer == WAITING
            && !node.proved
            && node.flags == 0
            && node.role == Role::Mix.to_string()
    });
    if unproved > 0 {
        let why = "unproved: it brought no proof of its place in time, and waits for this document and the next";
        lines.extend(wrap(why, columns, 2));
    }
    if own.is_some_and(|own| document.nodes.iter().any(|node| node.identity == own)) {
        lines.push("* the node on this host".to_owned());
    }
    lines.join("\n")
}

/// Which epoch it is, and which documents are here.
pub fn epochs(epochs: &Epochs, now_ms: u64, columns: usize) -> String {
    let columns = columns.max(COLUMNS_MIN);
    let left = span(epochs.ends_unix_ms.saturating_sub(now_ms));
    let head = match epochs.in_force {
        Some(epoch) if epoch == epochs.now => format!("epoch {}, ends in {left}", epochs.now),
        Some(epoch) => format!(
            "epoch {}, ends in {left}; it has no document: that of epoch {epoch} carries on until it ends",
            epochs.now
        ),
        None => format!(
            "epoch {}, ends in {left}; no document is in force",
            epochs.now
        ),
    };
    let mut lines = wrap(&head, columns, 2);
    let digest = columns
        .saturating_sub(10 + 2 + 8 + 2 + 8 + 2 + 5 + 2)
        .min(64);
    let row = |epoch: &str, state: &str, place: &str, nodes: &str, hash: &str| {
        let mut line = format!("{epoch:>10}  {state:<8}  {place:<8}  {nodes:>5}");
        if digest >= SHORT {
            line.push_str(&format!(
                "  {}",
                hash.chars().take(digest).collect::<String>()
            ));
        }
        line.trim_end().to_owned()
    };
    if !epochs.epochs.is_empty() {
        lines.push(row("epoch", "document", "place", "nodes", "digest"));
    }
    for held in &epochs.epochs {
        let state = match held.epoch {
            epoch if Some(epoch) == epochs.in_force => "in force",
            epoch if epoch > epochs.now => "next",
            _ => "over",
        };
        let place = match held.layer {
            Some(0) => "gateway".to_owned(),
            Some(layer) => format!("layer {layer}"),
            None if held.listed => "waiting".to_owned(),
            None => "unlisted".to_owned(),
        };
        let (epoch, nodes) = (held.epoch.to_string(), held.nodes.to_string());
        lines.push(row(&epoch, state, &place, &nodes, &held.consensus_hash));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
