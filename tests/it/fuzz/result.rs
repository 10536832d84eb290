//! Whatever a result file holds: it is refused with a text, or it can be compared, shown and saved again.

use keeplive::measurement::Measurement;
use keeplive::report::{json, terminal};

pub(crate) fn run(data: &[u8]) {
    let measurement = match Measurement::from_slice(data) {
        Ok(measurement) => measurement,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let comparison = keeplive::compare::arms(&measurement);
    let style = terminal::Style { colour: true, width: 80 };
    terminal::write(&measurement, &comparison, style, &mut std::io::sink()).expect("a sink takes all");
    serde_json::to_vec(&json::summary(&measurement, &comparison)).expect("a summary is JSON");
    let saved = serde_json::to_vec(&measurement).expect("a measurement is JSON");
    Measurement::from_slice(&saved).expect("what was saved can be read");
}
