//! The list of admitted nodes, `nodes.toml`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use authority::admission::Admitted;
use directory::store::{hex, open_regular, unhex};
use directory::{NODES_MAX, OPERATOR_BYTES_MAX, Role};
use program::config::ConfigError;
use serde::{Deserialize, Deserializer, de};

/// Where it lies unless told otherwise.
pub const NODES_PATH: &str = "/etc/fogmix/nodes.toml";

/// The nodes of a list, by identity.
pub type Admissions = BTreeMap<[u8; 32], Admitted>;

const HEAD: &str = "\
# Who may be in the network: `mixctl authority nodes` writes this file, and SIGHUP has the authority read it again.
# A descriptor that says another role or operator is refused; nobody weighs more than `weight`.
";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    node: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(deserialize_with = "identity")]
    identity: [u8; 32],
    #[serde(deserialize_with = "role")]
    role: Role,
    #[serde(deserialize_with = "operator")]
    operator: String,
    #[serde(deserialize_with = "weight")]
    weight: u32,
    #[serde(default)]
    paused: bool,
}

fn identity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    parse_identity(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// Reads a node's identity as people write it.
///
/// # Errors
/// A sentence that names the accepted form.
pub fn parse_identity(text: &str) -> Result<[u8; 32], String> {
    unhex(text).ok_or_else(|| format!("`{text}` is no identity: 64 hexadecimal digits"))
}

fn role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
    parse_role(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// Reads a role.
///
/// # Errors
/// A sentence that names the roles.
pub fn parse_role(text: &str) -> Result<Role, String> {
    match text {
        "mix" => Ok(Role::Mix),
        "gateway" => Ok(Role::Gateway),
        other => Err(format!(
            "unknown role `{other}`: use \"mix\" or \"gateway\""
        )),
    }
}

fn operator<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    parse_operator(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// Reads an operator's name, as descriptors may have it.
///
/// # Errors
/// A sentence that names what is allowed.
pub fn parse_operator(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    match plain && (1..=OPERATOR_BYTES_MAX).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is no operator's name: 1 to {OPERATOR_BYTES_MAX} characters of printable ASCII"
        )),
    }
}

fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(de::Error::custom(
            "a weight is 1 at least: `paused` takes a node out",
        )),
        weight => Ok(weight),
    }
}

/// Reads the list; none if there is no such file.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read(file: &Path) -> Result<Option<Admissions>, ConfigError> {
    let opened = open_regular(file);
    if let Err(error) = &opened
        && error.kind() == io::ErrorKind::NotFound
    {
        return Ok(None);
    }
    let text = program::config::read(file, opened)?;
    let list: File = program::config::parse(&text, file)?;
    let refused = |problem: String, remedy: &str| ConfigError {
        file: file.to_owned(),
        line: None,
        problem,
        remedy: remedy.to_owned(),
    };
    if list.node.len() > NODES_MAX {
        let problem = format!("{} nodes", list.node.len());
        return Err(refused(
            problem,
            &format!("a network has {NODES_MAX} at most"),
        ));
    }
    let mut admissions = Admissions::new();
    for entry in list.node {
        let admitted = Admitted {
            role: entry.role,
            operator: entry.operator,
            weight_max: entry.weight,
            paused: entry.paused,
        };
        if admissions.insert(entry.identity, admitted).is_some() {
            let problem = format!("node {} is there twice", hex(&entry.identity));
            return Err(refused(problem, "keep one of the two"));
        }
    }
    Ok(Some(admissions))
}

/// Writes the list in place of the one that is there, whose owner, group and mode it keeps.
///
/// # Errors
/// The file system's.
pub fn write(file: &Path, admissions: &Admissions) -> io::Result<()> {
    let mut text = HEAD.to_owned();
    for (identity, node) in admissions {
        // Writing to a string can't fail. An operator's name is printable ASCII: TOML's escapes are those of Debug.
        let _ = write!(
            text,
            "\n[[node]]\nidentity = \"{}\"\nrole = \"{}\"\noperator = {:?}\nweight = {}\n",
            hex(identity),
            node.role,
            node.operator,
            node.weight_max
        );
        if node.paused {
            text.push_str("paused = true\n");
        }
    }
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let _ = fs::remove_file(&new);
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(&new)?;
    if let Ok(old) = fs::metadata(file) {
        out.set_permissions(old.permissions())?;
        let now = out.metadata()?;
        if (old.uid(), old.gid()) != (now.uid(), now.gid()) {
            std::os::unix::fs::fchown(&out, Some(old.uid()), Some(old.gid()))?;
        }
    }
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(operator: &str, paused: bool) -> Admitted {
        Admitted {
            role: Role::Gateway,
            operator: operator.to_owned(),
            weight_max: 77,
            paused,
        }
    }

    #[test]
    fn a_list_is_read_back_as_it_was_written_whatever_the_operator_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodes.toml");
        let list = Admissions::from([
            ([1; 32], admitted("a \"quoted\\\" name'", false)),
            ([2; 32], admitted("~ #{}[]=", true)),
        ]);
        write(&file, &list).unwrap();
        assert_eq!(read(&file).unwrap(), Some(list));
        write(&file, &Admissions::new()).unwrap();
        assert_eq!(read(&file).unwrap(), Some(Admissions::new()));
    }

    #[test]
    fn a_wrong_list_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodes.toml");
        let id = "01".repeat(32);
        let node = |rest: &str| format!("[[node]]\nidentity = \"{id}\"\n{rest}\n");
        let good = node("role = \"mix\"\noperator = \"a\"\nweight = 1");
        for (text, says) in [
            (
                node("role = \"mix\"\noperator = \"a\"\nwieght = 1"),
                "did you mean `weight`?",
            ),
            (
                node("role = \"mux\"\noperator = \"a\"\nweight = 1"),
                "unknown role `mux`",
            ),
            (
                node("role = \"mix\"\noperator = \"\"\nweight = 1"),
                "no operator's name",
            ),
            (
                node("role = \"mix\"\noperator = \"a\"\nweight = 0"),
                "1 at least",
            ),
            (good.replace("0101", "xx"), "64 hexadecimal digits"),
            (format!("{good}{good}"), "is there twice"),
        ] {
            fs::write(&file, text).unwrap();
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        fs::write(&file, good).unwrap();
        assert_eq!(read(&file).unwrap().unwrap().len(), 1);
    }
}
