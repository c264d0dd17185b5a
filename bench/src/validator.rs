//! Holds JSON against a JSON schema (draft 2020-12): the keywords that ours has. One that is not known here fails.
//! The schema is this crate's own, so what is wrong with it is a defect and panics.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// What of `value` is not as `schema` says.
pub(crate) fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    let validator = Validator { root: schema };
    validator.check(schema, value, "", &mut errors);
    errors
}

struct Validator<'a> {
    root: &'a Value,
}

impl Validator<'_> {
    /// Adds what is wrong to `errors`; gives the properties that the schema has spoken of.
    fn check(
        &self,
        schema: &Value,
        value: &Value,
        at: &str,
        errors: &mut Vec<String>,
    ) -> BTreeSet<String> {
        let mut known = BTreeSet::new();
        let Some(schema) = schema.as_object() else {
            match schema.as_bool() {
                Some(true) => {}
                _ => errors.push(format!("{at}: nothing may be here")),
            }
            return known;
        };
        for (keyword, wanted) in schema {
            let fits = match keyword.as_str() {
                "$schema" | "$defs" | "title" | "description" | "format" => true,
                "$ref" => {
                    let path = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                    let target = self.root.pointer(path).unwrap();
                    known.extend(self.check(target, value, at, errors));
                    true
                }
                "type" => is_of_type(wanted, value),
                "const" => wanted == value,
                "enum" => wanted.as_array().unwrap().contains(value),
                "minimum" => value
                    .as_f64()
                    .is_none_or(|value| value >= wanted.as_f64().unwrap()),
                "maximum" => value
                    .as_f64()
                    .is_none_or(|value| value <= wanted.as_f64().unwrap()),
                "minItems" => items(value).len() as u64 >= wanted.as_u64().unwrap(),
                "maxItems" => items(value).len() as u64 <= wanted.as_u64().unwrap(),
                "required" => wanted.as_array().unwrap().iter().all(|name| {
                    value
                        .as_object()
                        .is_none_or(|object| object.contains_key(name.as_str().unwrap()))
                }),
                "properties" => {
                    for (name, schema) in wanted.as_object().unwrap() {
                        if let Some(value) = value.get(name) {
                            known.insert(name.clone());
                            self.check(schema, value, &format!("{at}/{name}"), errors);
                        }
                    }
                    true
                }
                "prefixItems" => {
                    for (number, (schema, value)) in wanted
                        .as_array()
                        .unwrap()
                        .iter()
                        .zip(items(value))
                        .enumerate()
                    {
                        self.check(schema, value, &format!("{at}/{number}"), errors);
                    }
                    true
                }
                "items" => {
                    let skipped = schema
                        .get("prefixItems")
                        .map_or(0, |prefix| items(prefix).len());
                    for (number, value) in items(value).iter().enumerate().skip(skipped) {
                        self.check(wanted, value, &format!("{at}/{number}"), errors);
                    }
                    true
                }
                "oneOf" | "anyOf" => {
                    let (fitting, properties) = self.fitting(wanted, value, at);
                    known.extend(properties);
                    match keyword.as_str() {
                        "oneOf" => fitting == 1,
                        _ => fitting > 0,
                    }
                }
                // Look at what the others have spoken of.
                "additionalProperties" | "unevaluatedProperties" => true,
                other => panic!("the keyword {other} is not known to this validator"),
            };
            if !fits {
                errors.push(format!("{at}: {keyword} {wanted}: {value}"));
            }
        }
        self.check_rest(schema, value, at, &mut known, errors);
        known
    }

    fn fitting(&self, schemas: &Value, value: &Value, at: &str) -> (usize, BTreeSet<String>) {
        let mut fitting = 0;
        let mut known = BTreeSet::new();
        for schema in items(schemas) {
            let mut errors = Vec::new();
            let properties = self.check(schema, value, at, &mut errors);
            if errors.is_empty() {
                fitting += 1;
                known.extend(properties);
            }
        }
        (fitting, known)
    }

    /// Properties that no keyword has spoken of yet.
    fn check_rest(
        &self,
        schema: &Map<String, Value>,
        value: &Value,
        at: &str,
        known: &mut BTreeSet<String>,
        errors: &mut Vec<String>,
    ) {
        let own = schema.get("properties").and_then(Value::as_object);
        for keyword in ["additionalProperties", "unevaluatedProperties"] {
            let (Some(rest), Some(object)) = (schema.get(keyword), value.as_object()) else {
                continue;
            };
            for (name, value) in object {
                let spoken_of = match keyword {
                    "additionalProperties" => own.is_some_and(|own| own.contains_key(name)),
                    _ => known.contains(name),
                };
                if !spoken_of {
                    self.check(rest, value, &format!("{at}/{name}"), errors);
                    known.insert(name.clone());
                }
            }
        }
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the type {other} is not known to this validator"),
    };
    match wanted.as_array() {
        Some(names) => names.iter().any(is),
        None => is(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_schema_says_is_held_against_what_is_there() {
        let schema = json!({
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 1}, "list": {"$ref": "#/$defs/List"}},
            "required": ["n"],
            "oneOf": [
                {"properties": {"kind": {"const": "a"}}, "required": ["kind"]},
                {"properties": {"kind": {"const": "b"}, "more": {"type": ["string", "null"]}}, "required": ["kind", "more"]},
            ],
            "unevaluatedProperties": false,
            "$defs": {"List": {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "number"}, "maxItems": 3}},
        });
        let fits = |value: Value| errors(&schema, &value).is_empty();
        assert!(fits(json!({"n": 1, "kind": "a"})));
        assert!(fits(
            json!({"n": 1, "kind": "b", "more": null, "list": ["x", 1.5, 2]})
        ));
        assert!(!fits(json!({"n": 0, "kind": "a"})));
        assert!(!fits(json!({"n": 1.5, "kind": "a"})));
        assert!(!fits(json!({"kind": "a"})));
        assert!(!fits(json!({"n": 1, "kind": "c"})));
        assert!(!fits(json!({"n": 1, "kind": "b"})));
        // Spoken of by the other alternative alone.
        assert!(!fits(json!({"n": 1, "kind": "a", "more": "x"})));
        assert!(!fits(json!({"n": 1, "kind": "a", "less": 1})));
        assert!(!fits(json!({"n": 1, "kind": "a", "list": [1]})));
        assert!(!fits(json!({"n": 1, "kind": "a", "list": ["x", "y"]})));
        assert!(!fits(json!({"n": 1, "kind": "a", "list": ["x", 1, 2, 3]})));
        assert!(!fits(json!([])));
    }
}
