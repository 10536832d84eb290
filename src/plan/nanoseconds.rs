//! Durations as whole nanoseconds, for serde's `with`. They are types, not modules, so that the schema of such a field
//! stands here, too: schemars asks whatever `with` names.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::duration::nanoseconds;

/// Durations as whole nanoseconds.
#[allow(non_camel_case_types, reason = "serde's `with` reads it as the path of a module")]
pub(crate) enum ns {}

impl ns {
    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(nanoseconds(*duration))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_nanos)
    }
}

/// The same where there may be none.
#[allow(non_camel_case_types, reason = "as above")]
pub(crate) enum optional_ns {}

impl optional_ns {
    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        duration.map(nanoseconds).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_nanos))
    }
}

#[cfg(test)]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator};

    macro_rules! as_if {
        ($name:ident, $is:ty) => {
            impl JsonSchema for super::$name {
                fn schema_name() -> Cow<'static, str> {
                    <$is>::schema_name()
                }

                fn inline_schema() -> bool {
                    true
                }

                fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                    <$is>::json_schema(generator)
                }
            }
        };
    }
    as_if!(ns, u64);
    as_if!(optional_ns, Option<u64>);
}
