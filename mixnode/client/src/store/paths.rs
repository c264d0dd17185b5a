//! Paths in JSON: a text where they are one, else their bytes.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&Path> for Form {
    fn from(path: &Path) -> Self {
        path.to_str().map_or_else(
            || Form::Bytes(path.as_os_str().as_bytes().to_owned()),
            |text| Form::Text(text.to_owned()),
        )
    }
}

impl From<Form> for PathBuf {
    fn from(form: Form) -> Self {
        match form {
            Form::Text(text) => text.into(),
            Form::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }
    }
}

/// For `#[serde(with)]`.
pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    Form::from(path).serialize(serializer)
}

/// For `#[serde(with)]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Form::deserialize(deserializer).map(PathBuf::from)
}

/// The same for a path that may be missing.
pub(super) mod optional {
    use super::{Deserialize, Deserializer, Form, PathBuf, Serialize, Serializer};

    pub(in crate::store) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let form = path.as_deref().map(Form::from);
        form.serialize(serializer)
    }

    pub(in crate::store) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let form = Option::<Form>::deserialize(deserializer)?;
        Ok(form.map(PathBuf::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        #[serde(with = "super")]
        path: PathBuf,
        #[serde(with = "super::optional")]
        place: Option<PathBuf>,
    }

    #[test]
    fn any_path_is_read_as_it_was_written_and_a_text_stays_one() {
        let bytes: PathBuf = OsString::from_vec(b"/in/caf\xe9".to_vec()).into();
        for (path, place) in [
            (PathBuf::from("/in/ä"), None),
            (bytes.clone(), Some(bytes.clone())),
            (PathBuf::from("/in"), Some(bytes)),
        ] {
            let holder = Holder { path, place };
            let text = serde_json::to_string(&holder).unwrap();
            assert_eq!(serde_json::from_str::<Holder>(&text).unwrap(), holder);
        }
        let old: Holder = serde_json::from_str(r#"{"path":"/in","place":null}"#).unwrap();
        assert_eq!((old.path, old.place), (PathBuf::from("/in"), None));
    }
}
