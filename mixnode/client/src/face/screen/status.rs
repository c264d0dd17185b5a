//! How a `fog` that runs stands, for the user.

use fog::Phase;
use fog::control::{Item, Status};
use fog::run::Wait;
use serde_json::{Value, json};

use super::sending::{loss_words, phase_word};
use super::{Screen, counted, size};

/// Shows it.
pub fn show(screen: &mut Screen, status: &Status) {
    let out = crate::paths::shown(&status.out);
    screen.event(&json!({
        "event": "status", "process": status.process, "since": status.since_unix_s, "out": out,
        "address": status.address, "attached": status.is_attached, "waiting": words(status.waiting.as_ref()),
        "receiving": status.receiving.iter().map(object).collect::<Vec<_>>(),
        "sending": status.sending.iter().map(object).collect::<Vec<_>>(),
        "keys_withheld": status.keys_withheld,
        "granted_less": status.less.map(|less| json!({
            "granted_pps": less.granted_pps, "asked_pps": less.asked_pps, "text": less.to_string(),
        })),
    }));
    let at = status.since_unix_s;
    let task = match out.is_empty() {
        true => "sending alone".to_owned(),
        false => format!("receiving into {out}"),
    };
    screen.result(&format!(
        "running since {:02}:{:02}:{:02} UTC as process {}, {task}",
        at / 3_600 % 24,
        at / 60 % 60,
        at % 60,
        status.process
    ));
    let standing = match &status.waiting {
        Some(wait) => format!("waiting: {wait}"),
        None if status.is_attached => "attached to its gateway".to_owned(),
        None => "attaching to its gateway".to_owned(),
    };
    screen.result(&standing);
    if let Some(less) = &status.less {
        screen.result(&less.to_string());
    }
    if status.keys_withheld > 0 {
        let withheld = counted(status.keys_withheld, "request");
        screen.result(&format!(
            "{withheld} for your key without an answer: strangers ask for more than you answer"
        ));
    }
    for item in &status.receiving {
        screen.result(&format!("receiving {}", line(item)));
    }
    for item in &status.sending {
        screen.result(&format!("sending   {}", line(item)));
        // What holds up everything was said above.
        if let Some(wait) = item.waiting.as_ref().filter(|wait| is_of_one(wait)) {
            screen.result(&format!("          waiting: {wait}"));
        }
    }
}

/// Whether it is about one recipient.
fn is_of_one(wait: &Wait) -> bool {
    matches!(
        wait,
        Wait::Recipient { .. } | Wait::RecipientGateway { .. } | Wait::NoRoom
    )
}

fn line(item: &Item) -> String {
    let share = item.bytes as f64 / item.size.max(1) as f64;
    let done = if item.size == 0 { 0.0 } else { share * 100.0 };
    let how = match item.progress.as_ref().map(|progress| &progress.phase) {
        Some(Phase::FetchingKey) => "  asking for the recipient's key",
        Some(Phase::Checking) => "  looking whether it has changed",
        _ => "",
    };
    let lost = item.progress.as_ref().map(loss_words).unwrap_or_default();
    format!(
        "{done:>3.0} %  {} of {}{how}{lost}  {}",
        size(item.bytes),
        size(item.size),
        item.name
    )
}

fn object(item: &Item) -> Value {
    let mut object = json!({ "name": item.name, "bytes": item.bytes, "size": item.size });
    if let Some(progress) = &item.progress {
        object["phase"] = phase_word(&progress.phase).into();
        object["lost_percent"] = (progress.loss * 100.0).round().into();
        object["waiting"] = words(item.waiting.as_ref());
    }
    object
}

fn words(wait: Option<&Wait>) -> Value {
    wait.map_or(
        Value::Null,
        |wait| json!({ "for": wait.name(), "text": wait.to_string() }),
    )
}
