use serde_json::Value;

use super::*;
use crate::envelope::{Envelope, Results};
use crate::network::Files;

fn setting() -> Setting {
    Setting {
        clients: 1_000,
        busy: 100,
        rate_pps: 4,
        gateways: 2,
        mixes: 2,
        mean_delay_ms: 50,
        port: "plain".into(),
        cpu_seconds: [3.0, 2.0, 1.0],
        kernel_drops: 0,
        rss_bytes: vec![50, 60, 100, 100, 100, 100, 101, 20],
        seed: 1,
    }
}

/// Of a network that does what its law says.
fn seen() -> Seen {
    let late = quantiles(&[1.0; 9]);
    let mut seen = Seen {
        seconds: 140.0,
        probes_sent: PROBES_LEAST as u64,
        crowded: 1_000,
        fetching: [[18_000, 1_000], [500, 500]],
        took_us: Vec::new(),
        files: Files {
            sent: 30,
            delivered: 30,
            retransmitted: 2,
            failed: 0,
        },
        files_meanwhile: 28,
        datagrams: 560_000,
        late,
        letters_pps: 3.24,
        granted_pps: 5.0,
        cpu_seconds: 1.0,
        troubles: Vec::new(),
    };
    seen.took_us = setting().law(&seen).draws(PROBES_LEAST, 9);
    seen
}

fn concluded(setting: &Setting, seen: &Seen, law: Law, quick: bool) -> Envelope {
    let mut session = Session::begin(quick, 0);
    let report = conclude(setting, seen, law, &mut session);
    session.end(Results::Network(Box::new(report)), BTreeMap::new())
}

fn of(setting: &Setting, seen: &Seen) -> Envelope {
    concluded(setting, seen, setting.law(seen), false)
}

#[test]
fn what_follows_its_law_is_sound_and_fits_the_schema() {
    let (setting, seen) = (setting(), seen());
    let law = setting.law(&seen);
    assert!((law.mail_pps - (0.4 + 20_000.0 / 140.0 / 900.0)).abs() < 1e-9);
    assert_eq!(law.fetching, [[0.9, 0.05], [0.025, 0.025]]);
    let envelope = of(&setting, &seen);
    assert!(envelope.is_sound(), "{:?}", envelope.failures);
    assert!(envelope.skipped.is_empty(), "{:?}", envelope.skipped);
    let json = crate::envelope::assert_valid(&envelope);
    assert_eq!(json["command"], "network");
    let results = &json["results"];
    assert_eq!(results["lost_messages"], 0);
    assert!(results["theory"]["ks_d"].as_f64().unwrap() < 0.02);
    assert_eq!(results["theory"]["why_not_judged"], Value::Null);
    // 21,000 probes for 408,240 slots, of a twentieth of the senders for 317,520.
    assert_eq!(results["probes"]["crowded_by_law"], 1_041.0);
    assert_eq!(results["memory_growth"], 1.01);
    for share in results["theory"]["shares"].as_array().unwrap() {
        let number = |key: &str| share[key].as_f64().unwrap();
        assert!((number("measured") - number("law")).abs() < 0.02);
    }
    assert!(envelope.text().contains("20,000 sent, 20,000 delivered"));
}

fn failure(envelope: &Envelope) -> String {
    assert!(!envelope.is_sound());
    crate::envelope::assert_valid(envelope);
    envelope.failures.join("; ")
}

#[test]
fn a_law_with_the_wrong_mean_is_reported() {
    let (setting, seen) = (setting(), seen());
    let mut law = setting.law(&seen);
    law.mean_us *= 1.2;
    let said = failure(&concluded(&setting, &seen, law, false));
    assert!(said.contains("not what the law says: D = 0.0"), "{said}");
    // Too few to tell are not said to be wrong, nor right.
    let mut few = seen.clone();
    few.took_us.truncate(100);
    few.probes_sent = 100;
    let envelope = concluded(&setting, &few, law, true);
    assert!(envelope.is_sound());
    assert!(envelope.skipped[0].why.contains("it takes 20000 probes"));
    assert!(envelope.text().contains("and it is not judged"));
    // But a run in full is there to tell.
    let said = failure(&concluded(&setting, &few, law, false));
    assert!(said.contains("it takes 20000 probes to tell, and 100 arrived"));
}

#[test]
fn a_node_that_drops_one_in_a_thousand_is_reported() {
    let (setting, mut seen) = (setting(), seen());
    let mut number = 0;
    seen.took_us.retain(|_| {
        number += 1;
        number % 1_000 != 0
    });
    let said = failure(&of(&setting, &seen));
    let lost = "20 messages got lost: 20 of 20000 probes, 0 of 30 files; ";
    assert!(said.starts_with(lost), "{said}");
    assert!(said.ends_with("and 19980 arrived"), "{said}");
    let mut seen = self::seen();
    seen.files.delivered -= 1;
    let said = failure(&of(&setting, &seen));
    assert_eq!(
        said,
        "1 messages got lost: 0 of 20000 probes, 1 of 30 files"
    );
    // Nothing at all arrives.
    seen.took_us.clear();
    assert!(failure(&of(&setting, &seen)).contains("20000 of 20000 probes"));
}

#[test]
fn lines_that_stand_longer_than_by_the_law_are_reported_though_what_was_sent_follows_it() {
    let (setting, mut seen) = (setting(), seen());
    // Half as many again.
    seen.crowded = 1_600;
    let envelope = of(&setting, &seen);
    let said = failure(&envelope);
    assert!(said.contains("7.4 % of the probes found another"), "{said}");
    assert!(said.contains("5.1 % are by the law"), "{said}");
    let json = serde_json::to_value(&envelope).unwrap();
    let theory = &json["results"]["theory"];
    assert_eq!(theory["is_judged"], false);
    assert!(said.contains(theory["why_not_judged"].as_str().unwrap()));
}

#[test]
fn files_that_were_waited_for_at_the_end_do_not_count_for_speed() {
    let json = serde_json::to_value(of(&setting(), &seen())).unwrap();
    let files = &json["results"]["files"];
    assert_eq!(files["delivered"], 30);
    assert_eq!(files["delivered_meanwhile"], 28);
    // 28 of 16 KiB in 140 s.
    assert_eq!(files["goodput_bytes_per_s"], 3_277.0);
}

#[test]
fn memory_that_cannot_be_read_is_named() {
    let mut setting = setting();
    setting.rss_bytes.fill(0);
    let envelope = of(&setting, &seen());
    assert_eq!(
        crate::envelope::assert_valid(&envelope)["results"]["memory_growth"],
        Value::Null
    );
    assert!(envelope.skipped[0].why.contains("could not be read"));
}

#[test]
fn memory_that_grows_is_reported_and_a_busy_machine_is_named() {
    let (mut setting, mut seen) = (setting(), seen());
    setting.rss_bytes[6] = 103;
    let said = failure(&of(&setting, &seen));
    assert!(said.contains("memory grew 3.0 %"), "{said}");
    setting.rss_bytes.truncate(5);
    seen.late.p99_us = LATE_MOST_US + 1;
    let envelope = of(&setting, &seen);
    assert!(envelope.is_sound());
    assert!(envelope.skipped[0].why.contains("seven epochs"));
    let busy = |warning: &String| warning.contains("5001 µs late");
    assert!(
        envelope.warnings.iter().any(busy),
        "{:?}",
        envelope.warnings
    );
}
