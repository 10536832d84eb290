//! Results as files: one JSON document each, written whole or not at all, never over another one, and read back
//! by its `schema`.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// When a result was begun, as it says itself and in its name: RFC 3339, in UTC, to the second.
pub(crate) fn date(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A temporary file that everybody may read whom the user's umask lets read.
fn temporary() -> tempfile::Builder<'static, 'static> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes"))]
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

/// Writes a result into a folder, which is made if need be, under the name `<started>-<verb>.json`, or with a number
/// where that is taken.
pub(crate) fn write(
    folder: &Path,
    started: &str,
    verb: &str,
    result: &impl Serialize,
) -> io::Result<PathBuf> {
    let told = |path: &Path, error: io::Error| {
        io::Error::new(error.kind(), format!("could not write {}: {error}", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| told(folder, error))?;
    let mut file = temporary().tempfile_in(folder).map_err(|error| told(folder, error))?;
    let text = serde_json::to_vec(result).map_err(io::Error::other)?;
    file.write_all(&text).and_then(|()| file.write_all(b"\n")).map_err(|error| told(folder, error))?;
    file.as_file().sync_all().map_err(|error| told(folder, error))?;
    let stem = format!("{}-{verb}", started.replace([':', '-'], ""));
    for nth in 1.. {
        let name = if nth == 1 { format!("{stem}.json") } else { format!("{stem}-{nth}.json") };
        let path = folder.join(name);
        match file.persist_noclobber(&path) {
            Ok(_) => return Ok(path),
            Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => file = taken.file,
            Err(failed) => return Err(told(&path, failed.error)),
        }
    }
    unreachable!("the numbers do not end")
}

/// Writes a file that somebody named: whole, in the place of an older one, or not at all. What is no regular file (a
/// pipe, a terminal) is written to as it stands.
///
/// # Errors
///
/// What the file system or `fill` says, with the path.
pub fn put(path: &Path, fill: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<()> {
    let told = |error: io::Error| {
        io::Error::new(error.kind(), format!("could not write {}: {error}", path.display()))
    };
    if std::fs::metadata(path).is_ok_and(|known| !known.is_file()) {
        return std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| fill(&mut file))
            .map_err(told);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary().tempfile_in(folder).map_err(told)?;
    fill(&mut file).and_then(|()| file.as_file().sync_all()).map_err(told)?;
    file.persist(path).map(drop).map_err(|failed| told(failed.error))
}

/// Which schema a saved result follows: `keeplive.result/1`, `keeplive.probe/1`, or what else its `schema` says.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`] when it is not JSON with a `schema`; otherwise what the file system says, with the
/// path.
pub fn schema(path: &Path) -> io::Result<String> {
    open(path, "keeplive.result/1").map(|document| document.schema)
}

/// A file that has been read and says which schema it follows.
pub(crate) struct Document<'p> {
    path: &'p Path,
    bytes: Vec<u8>,
    schema: String,
}

/// More bytes than a result has: a slot takes some kilobytes.
const LONGEST: u64 = 1 << 30;

/// Reads a file as far as its `schema`.
pub(crate) fn open<'p>(path: &'p Path, expected: &str) -> io::Result<Document<'p>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes)).map_err(
        |error| io::Error::new(error.kind(), format!("could not read {}: {error}", path.display())),
    )?;
    if bytes.len() as u64 == LONGEST {
        return Err(invalid(path, "not a keeplive result: it has a gigabyte or more".to_owned()));
    }
    let schema = head(&bytes, expected).map_err(|text| invalid(path, text))?;
    Ok(Document { path, bytes, schema })
}

/// Reads a whole document that is to follow `schema`; the error tells why it does not.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], schema: &str) -> Result<T, String> {
    body(bytes, &head(bytes, schema)?, schema)
}

/// What a document says of its schema.
fn head(bytes: &[u8], expected: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Head {
        schema: Option<String>,
    }
    let not_ours = format!("not a keeplive result (JSON with \"schema\": \"{expected}\")");
    let head: Head = serde_json::from_slice(bytes).map_err(|error| format!("{not_ours}: {error}"))?;
    head.schema.ok_or(not_ours)
}

/// All of a document that says to follow `found`, when that is `schema` (`family/version`).
fn body<T: DeserializeOwned>(bytes: &[u8], found: &str, schema: &str) -> Result<T, String> {
    let family = schema.rsplit_once('/').map_or(schema, |(family, _)| family);
    if found == schema {
        return serde_json::from_slice(bytes).map_err(|error| format!("a damaged result: {error}"));
    }
    Err(match found.strip_prefix(family).is_some_and(|rest| rest.starts_with('/')) {
        true => format!("written by a newer keeplive ({found}); this one reads {schema}"),
        false => format!("not a keeplive result (JSON with \"schema\": \"{schema}\"), but \"{found}\""),
    })
}

impl Document<'_> {
    /// The whole of it, when it follows `schema`.
    pub(crate) fn read<T: DeserializeOwned>(&self, schema: &str) -> io::Result<T> {
        body(&self.bytes, &self.schema, schema).map_err(|text| invalid(self.path, text))
    }
}

fn invalid(path: &Path, text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {text}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = "keeplive.something/1";

    #[test]
    fn a_date_is_utc_to_the_second() {
        let leap_day = std::time::UNIX_EPOCH + std::time::Duration::from_millis(951_868_799_999);
        assert_eq!(date(leap_day), "2000-02-29T23:59:59Z");
    }

    #[test]
    fn a_named_file_is_written_whole_over_the_older_one_or_the_older_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        put(&path, |out| out.write_all(b"old")).unwrap();
        let failed = put(&path, |out| out.write_all(b"half").and(Err(io::Error::other("no more"))));
        assert!(failed.unwrap_err().to_string().ends_with("report.html: no more"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        put(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
        assert!(put(Path::new("/dev/null"), |out| out.write_all(b"gone")).is_ok());
        assert!(put(Path::new("/dev/null"), |_| Ok(())).is_ok(), "it is still the device");
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn refused(text: &str) -> String {
        let file = file(text);
        let read = open(file.path(), SCHEMA).and_then(|document| document.read::<serde_json::Value>(SCHEMA));
        let error = read.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        error.to_string()
    }

    #[test]
    fn what_was_written_is_read_back_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let value = serde_json::json!({"schema": SCHEMA, "n": 1});
        let paths = [0, 1].map(|_| write(folder.path(), "2026-11-22T00:00:00Z", "verb", &value).unwrap());
        let names = paths.each_ref().map(|path| path.file_name().unwrap().to_str().unwrap());
        assert_eq!(names, ["20261122T000000Z-verb.json", "20261122T000000Z-verb-2.json"]);
        let read: serde_json::Value = open(&paths[1], SCHEMA).unwrap().read(SCHEMA).unwrap();
        assert_eq!(read, value);
    }

    #[test]
    fn what_is_no_result_is_refused_and_why() {
        assert!(refused("hello").contains("not a keeplive result"));
        assert!(refused("{}").contains(SCHEMA));
        assert!(refused(r#"{"schema": "keeplive.something/2"}"#).contains("newer keeplive"));
        assert!(
            refused(r#"{"schema": "keeplive.somethingelse/1"}"#).contains("but \"keeplive.somethingelse/1\"")
        );
    }
}
