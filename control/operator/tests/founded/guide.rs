//! The commands of the README, "Run your own network", in order, and on whose host each is typed.
//!
//! A comment that begins with `On` says where, for all that follows it up to the next such comment.

/// On whose host a command is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    EveryHost,
    EachAuthority,
    OneAuthority,
    LastAuthority,
    EachNode,
    EachUser,
    OneUser,
}

/// How the README says it, the longer beginnings first.
const PLACES: &[(&str, Place)] = &[
    ("On every host", Place::EveryHost),
    ("On each authority's host", Place::EachAuthority),
    ("On one authority's host", Place::OneAuthority),
    ("On the last authority's host", Place::LastAuthority),
    ("On each node's host", Place::EachNode),
    ("On each user's host", Place::EachUser),
    ("On one user's host", Place::OneUser),
];

/// A command as it stands there.
#[derive(Clone, Debug)]
pub struct Step {
    pub place: Place,
    pub command: String,
}

const SECTION: &str = "## Run your own network\n";
const FENCE: &str = "```";

/// All commands of the section.
pub fn steps(readme: &str) -> Vec<Step> {
    let (_, section) = readme.split_once(SECTION).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split(FENCE).skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.strip_prefix("sh\n"));
    let mut steps = Vec::new();
    for block in blocks {
        let mut place = None;
        // A command that goes on in the next line is one command.
        for line in block.replace("\\\n", " ").lines() {
            let line = line.trim();
            if let Some(comment) = line.strip_prefix("# ") {
                if comment.starts_with("On ") {
                    let known = PLACES.iter().find(|(words, _)| comment.starts_with(words));
                    let (_, known) = known.unwrap_or_else(|| panic!("where is this: {comment}"));
                    place = Some(*known);
                }
            } else if !line.is_empty() {
                let command = line.to_owned();
                let place = place.unwrap_or_else(|| panic!("on whose host: {command}"));
                steps.push(Step { place, command });
            }
        }
    }
    steps
}

/// The addresses in the URLs of the authorities, as the README proposes them.
pub fn authorities(steps: &[Step]) -> Vec<std::net::Ipv4Addr> {
    let propose = steps
        .iter()
        .find(|step| step.command.contains("set propose"));
    let urls = propose.unwrap().command.split("=http://").skip(1);
    let address = |url: &str| url.split_once(':').unwrap().0.parse().unwrap();
    urls.map(address).collect()
}

/// The programs that the first command installs.
pub fn programs(step: &Step) -> Vec<String> {
    let named = step
        .command
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    named.unwrap().0.split(',').map(str::to_owned).collect()
}
