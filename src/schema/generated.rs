//! The schemas as the types say them, against the files.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::ALL;

/// Keys that a printed probe has beyond the saved one, which are one kind of document.
const PRINTED_ONLY: [&str; 6] =
    ["headline", "recommendation", "client_idle", "expectations", "hints", "snippets"];

#[test]
fn every_file_says_what_the_types_say() {
    for schema in ALL {
        let text = generated(schema.name, schema.id, schema.about);
        let path = format!("{}/src/schema/{}.json", env!("CARGO_MANIFEST_DIR"), schema.name);
        if std::env::var_os("KEEPLIVE_WRITE_SCHEMAS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap() == text,
            "src/schema/{}.json is not what the types say: `KEEPLIVE_WRITE_SCHEMAS=1 cargo test --lib schema` writes it \
             anew",
            schema.name
        );
    }
}

#[test]
fn a_schema_is_found_by_its_short_name_and_by_what_documents_say() {
    for schema in ALL {
        let found = [schema.name, schema.id].map(|name| super::named(name).map(|found| found.id));
        assert_eq!(found, [Some(schema.id); 2]);
        let text: Value = serde_json::from_str(schema.text).unwrap();
        assert_eq!(text["properties"]["schema"], json!({ "const": schema.id }));
    }
    assert!(super::named("results").is_none());
}

fn generated(name: &str, id: &str, about: &str) -> String {
    let mut schema = match name {
        "result" => of::<crate::measurement::Measurement>(),
        "summary" => of::<crate::report::json::Summary<'static>>(),
        "side_by_side" => of::<crate::report::side_by_side::Document<'static>>(),
        "gate" => of::<crate::gate::result::Gate>(),
        "probe" => of::<crate::report::probe::json::Document<'static>>(),
        "soak" => of::<crate::findings::Soak>(),
        other => panic!("no type is known for {other}"),
    };
    walk(&mut schema);
    schema["title"] = id.into();
    schema["description"] = format!(
        "{id}: {about}. Names that end in `_ns` are whole nanoseconds. Keys that are not required may be missing, above all \
         in what an older version wrote; later versions may add keys to any object, so ignore those that you do not know."
    )
    .into();
    schema["properties"]["schema"] = json!({ "const": id });
    if name == "probe" {
        not_required(&mut schema, |key, _| PRINTED_ONLY.contains(&key));
    }
    serde_json::to_string_pretty(&schema).unwrap() + "\n"
}

/// As it is written, not as it may be read: a reader of JSON wants to know what it can count on.
fn of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().into()
}

fn walk(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = in_words_of_json(text);
            }
            object.values_mut().for_each(walk);
        }
        Value::Array(all) => all.iter_mut().for_each(walk),
        _ => {}
    }
    // What has a default when it is read came later: files that were written before lack it.
    not_required(value, |_, property| property.get("default").is_some());
}

fn not_required(schema: &mut Value, is_optional: impl Fn(&str, &Value) -> bool) {
    let Some(properties) = schema.get("properties").cloned() else { return };
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|key| key.as_str().is_none_or(|key| !is_optional(key, &properties[key])));
    }
}

/// What rustdoc says, for who reads JSON: without examples, links and line ends, and with `null` for `None`.
fn in_words_of_json(text: &str) -> String {
    let told = text.split("\n\n```").next().unwrap_or(text);
    let paragraphs: Vec<String> = told.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
    without_links(&paragraphs.join("\n\n")).replace("`None`", "`null`")
}

/// rustdoc's links as plain words: [`Slot::lag`](path) is `Slot::lag`.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    for (nth, part) in text.split("`]").enumerate() {
        let path = part.strip_prefix('(').filter(|_| nth > 0).and_then(|rest| rest.split_once(')'));
        plain += if nth > 0 { "`" } else { "" };
        plain += &path.map_or(part, |(_, after)| after).replace("[`", "`");
    }
    plain
}
