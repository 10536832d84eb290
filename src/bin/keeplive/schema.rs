//! `keeplive schema`: the form of what is saved and printed as JSON.

use std::io::{self, Write};

use keeplive::schema::{ALL, named};

use crate::args::SchemaArgs;
use crate::exit::Exit;
use crate::outcome::finished;

pub(crate) fn run(args: &SchemaArgs) -> io::Result<Exit> {
    let mut out = io::stdout().lock();
    let written = match &args.name {
        None => ALL.iter().try_for_each(|schema| writeln!(out, "{:<14}{}", schema.name, schema.about)),
        Some(name) => {
            let schema = named(name).ok_or_else(|| unknown(name))?;
            write!(out, "{}", schema.text)
        }
    };
    finished(written, &mut out)?;
    Ok(Exit::Done)
}

fn unknown(name: &str) -> io::Error {
    let names = ALL.map(|schema| schema.name).join(", ");
    io::Error::other(format!("there is no schema `{name}`: use one of {names}"))
}
