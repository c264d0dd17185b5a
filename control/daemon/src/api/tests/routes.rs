//! The description of the API, and whether what is answered is what it says.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::api::routes::DESCRIPTION;

/// What there is to ask for.
const ROUTES: &[&str] = &[
    "/api/v1/consensus",
    "/api/v1/dashboard",
    "/api/v1/drops",
    "/api/v1/epochs",
    "/api/v1/loops",
    "/api/v1/nodes",
    DESCRIPTION,
    "/api/v1/status",
    "/api/v1/updates",
    "/api/v1/workers",
    "/api/v1/xdp",
    "/healthz",
    "/metrics",
    "/metrics/node",
    "/readyz",
    "/ws/updates",
];

/// What is wrong with `value` as something of this schema; fields that it does not name are wrong too.
fn fault(whole: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = whole.pointer(name.strip_prefix('#')?);
        let Some(schema) = schema else {
            return Some(format!("{at}: {name} is not described"));
        };
        return fault(whole, schema, value, at);
    }
    if let Some(any) = schema["oneOf"].as_array() {
        let mut faults = any.iter().map(|one| fault(whole, one, value, at));
        let faults: Option<Vec<String>> = faults.by_ref().collect();
        return faults.map(|faults| faults.join(" or "));
    }
    if let Some(words) = schema["enum"].as_array() {
        return (!words.contains(value)).then(|| format!("{at}: {value} is no word of it"));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    let is_one_of = |kind: &str| kinds.iter().any(|one| one == kind);
    let is_whole = kind == "integer" && is_one_of("number");
    if !is_one_of(kind) && !is_whole {
        return Some(format!("{at}: {kind} in place of {kinds:?}"));
    }
    match value {
        Value::Array(items) => {
            let of = |place: usize| match schema["prefixItems"].get(place) {
                Some(item) => item,
                None => &schema["items"],
            };
            let mut all = items.iter().enumerate();
            all.find_map(|(place, item)| fault(whole, of(place), item, &format!("{at}/{place}")))
        }
        Value::Object(fields) => {
            let required = schema["required"].as_array().into_iter().flatten();
            let mut absent = required.filter(|name| !fields.contains_key(name.as_str().unwrap()));
            if let Some(name) = absent.next() {
                return Some(format!("{at}: no {name}"));
            }
            fields.iter().find_map(|(name, value)| {
                let at = format!("{at}/{name}");
                match schema["properties"].get(name) {
                    Some(schema) => fault(whole, schema, value, &at),
                    None => Some(format!("{at} is not described")),
                }
            })
        }
        _ => None,
    }
}

/// The answer, held against the description, and against the type that reads it: no field of it is passed over.
fn strict<T: DeserializeOwned + serde::Serialize>(whole: &Value, served: &Served, route: &str) {
    let value: Value = served
        .get(route)
        .unwrap_or_else(|why| panic!("{route}: {why}"));
    let path = route.split('?').next().unwrap();
    let schema = &whole["paths"][path]["get"]["responses"]["200"]["content"]["application/json"];
    assert_eq!(fault(whole, &schema["schema"], &value, path), None);
    let read: T = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), value, "{route}");
}

#[test]
fn the_description_is_of_the_routes_there_are_and_every_one_answers() {
    let served = Served::new(&board(0), None);
    let pages = PAGES.iter().map(|(path, ..)| *path);
    for path in ROUTES.iter().copied().chain(pages) {
        let said = served.raw(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
        // It has no page to name.
        let is_there = !said.starts_with("HTTP/1.1 404") || path == "/api/v1/dashboard";
        assert!(is_there && said.starts_with("HTTP/1.1 "), "{path}: {said}");
        let said = served.raw(format!("PUT {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
        assert!(said.starts_with("HTTP/1.1 405"), "{said}");
    }
    let unknown = served.get::<Value>("/api/v1/secrets").unwrap_err();
    for path in ROUTES {
        assert!(unknown.contains(path), "{unknown}");
    }
    let expected: BTreeSet<String> = ROUTES.iter().map(|path| (*path).to_owned()).collect();
    let whole: Value = served.get(DESCRIPTION).unwrap();
    let served_paths = whole["paths"].as_object().unwrap().keys().cloned();
    assert_eq!(served_paths.collect::<BTreeSet<_>>(), expected);
    assert_eq!(
        whole["components"]["securitySchemes"]["token"]["scheme"],
        "bearer"
    );
    assert_eq!(whole["info"]["version"], directory::version());
    let text = whole.to_string();
    let referred = text.split("\"$ref\":\"#").skip(1);
    let referred = referred.filter_map(|rest| rest.split('"').next());
    let absent: Vec<&str> = referred
        .filter(|name| whole.pointer(name).is_none())
        .collect();
    assert_eq!(absent, [""; 0]);
}

#[test]
fn live_answers_are_what_the_description_says_and_no_field_more() {
    let members = nodes(2, 4);
    let board = board(5);
    let documents = [4, 5, 6].map(|epoch| held(document_of(epoch, &members)));
    board.put(documents.to_vec(), Some(own(&members[3])));
    let served = Served::at(&board, None, Some("127.0.0.1:0".parse().unwrap()));
    for second in 0..3 {
        let status = NodeStatus {
            started_unix_ms: 1,
            not_ready: vec!["no loop".to_owned()],
            drops: vec![("mac".to_owned(), second)],
            epochs: vec![handover::status::Joined {
                epoch: 5,
                layer: None,
            }],
            loops: handover::status::Loops {
                returned: second,
                ..Default::default()
            },
            found: handover::status::Found {
                epoch: 5,
                n1_suspected: true,
                bad: vec![0],
                previous_silent: Some(1),
                previous: 2,
                ..Default::default()
            },
            hops: vec![
                handover::status::HopLoops {
                    sent: 1,
                    p50_us: Some(handover::status::Bounded::default()),
                    ..Default::default()
                },
                handover::status::HopLoops::default(),
            ],
            anonymity: handover::status::Anonymity {
                short: Some(40),
                ..Default::default()
            },
            workers: vec![handover::status::Worker::default(); 2],
            ..NodeStatus::default()
        };
        let at = Instant::now() + Duration::from_secs(second);
        served.witness.hear(at, Some(status));
    }
    let whole: Value = served.get(DESCRIPTION).unwrap();
    strict::<Status>(&whole, &served, "/api/v1/status");
    strict::<Nodes>(&whole, &served, "/api/v1/nodes");
    strict::<Document>(&whole, &served, "/api/v1/consensus");
    strict::<Epochs>(&whole, &served, "/api/v1/epochs");
    strict::<Workers>(&whole, &served, "/api/v1/workers");
    strict::<Drops>(&whole, &served, "/api/v1/drops?since=2");
    strict::<Loops>(&whole, &served, "/api/v1/loops");
    strict::<Updates>(&whole, &served, "/api/v1/updates");
    strict::<Dashboard>(&whole, &served, "/api/v1/dashboard");

    // No program is attached here, so what would be said of one is made by hand; so is an error.
    let xdp = Xdp {
        interfaces: vec![Interface {
            status: protocol::InterfaceStatus {
                interface: "eth0".to_owned(),
                port: 1,
                mode: protocol::Mode::Native,
                queues: 1,
                steered: 1,
                node: Some(([127, 0, 0, 1], 1).into()),
                indices: 1,
                peers: 1,
                fault: None,
            },
            packets: vec![("steered".to_owned(), 1)],
        }],
    };
    let problem: Problem =
        serde_json::from_slice(&Reply::problem(StatusCode::NOT_FOUND, "gone").body).unwrap();
    for (name, value) in [
        ("Xdp", serde_json::to_value(xdp).unwrap()),
        ("Problem", serde_json::to_value(problem).unwrap()),
    ] {
        let schema = serde_json::json!({"$ref": format!("#/components/schemas/{name}")});
        assert_eq!(fault(&whole, &schema, &value, name), None);
    }

    // The check finds what it is for.
    let schema = serde_json::json!({"$ref": "#/components/schemas/Epochs"});
    let mut epochs: Value = served.get("/api/v1/epochs").unwrap();
    let fault_of = |value: &Value| fault(&whole, &schema, value, "");
    assert_eq!(fault_of(&epochs), None);
    epochs["epochs"][0]["client"] = 1.into();
    assert!(fault_of(&epochs).unwrap().contains("/epochs/0/client"));
    epochs["epochs"] = "none".into();
    assert!(fault_of(&epochs).unwrap().contains("string in place of"));
    epochs.as_object_mut().unwrap().remove("now");
    assert!(fault_of(&epochs).unwrap().contains("no \"now\""));
}
