//! [`Schema`]: the JSON Schemas of what is written as JSON, for whoever reads it in another language. They are made of
//! the types that are written; `KEEPLIVE_WRITE_SCHEMAS=1 cargo test --lib schema` writes them anew.

/// The form of one kind of document, in JSON Schema's draft 2020-12.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Its short name: `result`.
    pub name: &'static str,
    /// What stands under `schema` in such a document: `keeplive.result/1`.
    pub id: &'static str,
    /// What such a document is, in a few words.
    pub about: &'static str,
    /// The JSON Schema.
    pub text: &'static str,
}

/// Every schema.
pub const ALL: [Schema; 6] = [
    Schema {
        name: "result",
        id: crate::measurement::SCHEMA,
        about: "what `compare` and `load` save",
        text: include_str!("schema/result.json"),
    },
    Schema {
        name: "summary",
        id: crate::report::json::SCHEMA,
        about: "what they print with --format json",
        text: include_str!("schema/summary.json"),
    },
    Schema {
        name: "side_by_side",
        id: crate::report::side_by_side::SCHEMA,
        about: "what `report` prints of several results with --format json",
        text: include_str!("schema/side_by_side.json"),
    },
    Schema {
        name: "gate",
        id: crate::gate::result::SCHEMA,
        about: "what `gate` saves and prints",
        text: include_str!("schema/gate.json"),
    },
    Schema {
        name: "probe",
        id: crate::findings::SCHEMA,
        about: "what `probe` saves and prints",
        text: include_str!("schema/probe.json"),
    },
    Schema {
        name: "soak",
        id: crate::findings::SOAK_SCHEMA,
        about: "what `soak` saves and prints",
        text: include_str!("schema/soak.json"),
    },
];

/// The schema of this short name, or of documents with this `schema`.
pub fn named(name: &str) -> Option<Schema> {
    ALL.into_iter().find(|schema| schema.name == name || schema.id == name)
}

#[cfg(test)]
mod generated;
