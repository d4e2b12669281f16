//! The words of a story. `tests/scripts/README.md` is their reference.

use super::{Story, StoryError};
use crate::plant::Plant;

/// Kinds of packets that a story may speak of: those of the wire, and the messages between replicas.
const KINDS: [&str; 22] = [
    "Prepare",
    "PrepareOk",
    "Commit",
    "Hello",
    "Welcome",
    "Refused",
    "NeedPrepares",
    "Stable",
    "Suspect",
    "StartViewChange",
    "DoViewChange",
    "StartView",
    "AskStartView",
    "Recovery",
    "RecoveryResponse",
    "NotNormal",
    "Fetching",
    "GetState",
    "NewState",
    "StateGone",
    "GetSnapshot",
    "SnapshotChunk",
];

/// One line, with its place.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub number: usize,
    pub text: String,
    pub command: Command,
}

/// Links between replicas; `None`: any.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub from: Option<usize>,
    pub to: Option<usize>,
}

/// Packets on a link: of a kind, carrying a request; `None`: any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct What {
    pub kind: Option<&'static str>,
    pub request: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Propose { to: usize, name: String },
    Retry { to: usize, name: String },
    Drop { link: Link, what: What },
    Hold { link: Link, what: What },
    Release { link: Link },
    Repeat { from: usize, to: usize, what: What },
    Replay { link: Link, what: What },
    Forge { from: usize, to: usize, what: What },
    Heal { node: Option<usize> },
    Pause(usize),
    Go(usize),
    Full(usize),
    Room(usize),
    Stall { node: usize, what: What, step: String },
    Resume { node: usize, what: What },
    Crash(usize),
    Restart(usize),
    FoundAnew,
    Tick(u64),
    Expect(Expect),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Role { node: usize, role: Role },
    View { node: usize, view: u64 },
    Holds { node: usize, name: String, holds: bool },
    Answered { name: String, answered: bool },
    CommittedOnce { name: String },
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Leads,
    Follows,
    Recovers,
    ChangesView,
}

/// Reads a whole story.
pub(super) fn parse(text: &str) -> Result<Story, StoryError> {
    let mut plant = None;
    let mut story =
        Story { plant: Plant::A1, replicas: 3, disk: false, keys: false, slots: 16, lines: Vec::new() };
    let mut known = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split('#').next().unwrap_or_default().trim();
        let words: Vec<_> = text.split_whitespace().collect();
        let wrong = |what: String| StoryError { line, what };
        let head = match words[..] {
            [] => continue,
            ["plant:", name] => {
                plant = Some(name.parse().map_err(|e| wrong(format!("{e}")))?);
                true
            }
            ["replicas", n] => {
                story.replicas = number(n)
                    .filter(|n| (3..=7).contains(n))
                    .ok_or_else(|| wrong("3 to 7 replicas".into()))?;
                true
            }
            ["slots", n] => {
                let slots = number(n).filter(|n: &u32| n.is_power_of_two());
                story.slots = slots.ok_or_else(|| wrong("the number of slots is a power of two".into()))?;
                true
            }
            ["disk"] => {
                story.disk = true;
                true
            }
            ["keys"] => {
                story.keys = true;
                true
            }
            _ => false,
        };
        if head && !story.lines.is_empty() {
            return Err(wrong("this belongs before the story".into()));
        }
        if !head {
            let command =
                Words { replicas: story.replicas, known: &mut known }.command(&words).map_err(wrong)?;
            story.lines.push(Line { number: line, text: text.to_owned(), command });
        }
    }
    let end = text.lines().count();
    let wrong = |what: &str| StoryError { line: end, what: what.to_owned() };
    story.plant = plant.ok_or_else(|| wrong("no `plant:` line names what spoils this story"))?;
    let expects = story.lines.iter().any(|line| matches!(line.command, Command::Expect(_)));
    if expects { Ok(story) } else { Err(wrong("a story expects something")) }
}

fn number<T: std::str::FromStr>(word: &str) -> Option<T> {
    word.parse().ok()
}

/// Reads the words of one line; knows the replicas and the requests so far.
struct Words<'a> {
    replicas: usize,
    known: &'a mut Vec<String>,
}

impl Words<'_> {
    fn command(&mut self, words: &[&str]) -> Result<Command, String> {
        Ok(match *words {
            ["propose", to, name] => {
                if self.request(name).is_ok() {
                    return Err(format!("`{name}` has been proposed; `retry` asks again"));
                }
                self.known.push(name.to_owned());
                Command::Propose { to: self.node(to)?, name: name.to_owned() }
            }
            ["retry", to, name] => Command::Retry { to: self.node(to)?, name: self.request(name)? },
            ["drop", from, "->", to, ref what @ ..] => {
                Command::Drop { link: self.link(from, to)?, what: self.what(what)? }
            }
            ["hold", from, "->", to, ref what @ ..] => {
                Command::Hold { link: self.link(from, to)?, what: self.what(what)? }
            }
            ["release", from, "->", to] => Command::Release { link: self.link(from, to)? },
            ["repeat", from, "->", to, ref what @ ..] => {
                Command::Repeat { from: self.node(from)?, to: self.node(to)?, what: self.what(what)? }
            }
            ["replay", from, "->", to, ref what @ ..] => {
                Command::Replay { link: self.link(from, to)?, what: self.what(what)? }
            }
            ["forge", from, "->", to, ref what @ ..] => {
                Command::Forge { from: self.node(from)?, to: self.node(to)?, what: self.what(what)? }
            }
            ["heal"] => Command::Heal { node: None },
            ["heal", node] => Command::Heal { node: Some(self.node(node)?) },
            ["pause", node] => Command::Pause(self.node(node)?),
            ["go", node] => Command::Go(self.node(node)?),
            ["full", node] => Command::Full(self.node(node)?),
            ["room", node] => Command::Room(self.node(node)?),
            ["stall", node, ref what @ .., "before", step] => {
                Command::Stall { node: self.node(node)?, what: self.what(what)?, step: step.to_owned() }
            }
            ["resume", node, ref what @ ..] => {
                Command::Resume { node: self.node(node)?, what: self.what(what)? }
            }
            ["crash", node] => Command::Crash(self.node(node)?),
            ["restart", node] => Command::Restart(self.node(node)?),
            ["found", "anew"] => Command::FoundAnew,
            ["tick", ms] => Command::Tick(number(ms).ok_or("`tick` takes milliseconds")?),
            ["expect", ref what @ ..] => Command::Expect(self.expect(what)?),
            _ => return Err(format!("unknown line `{}`", words.join(" "))),
        })
    }

    fn expect(&self, words: &[&str]) -> Result<Expect, String> {
        let role = |node, role| Ok(Expect::Role { node: self.node(node)?, role });
        let holds = |node, name, holds| {
            Ok(Expect::Holds { node: self.node(node)?, name: self.request(name)?, holds })
        };
        match *words {
            [node, "leads"] => role(node, Role::Leads),
            [node, "follows"] => role(node, Role::Follows),
            [node, "recovers"] => role(node, Role::Recovers),
            [node, "changes", "view"] => role(node, Role::ChangesView),
            [node, "view", view] => {
                let view = number(view).ok_or_else(|| format!("`{view}` is no view"))?;
                Ok(Expect::View { node: self.node(node)?, view })
            }
            [node, "holds", name] => holds(node, name, true),
            [node, "lacks", name] => holds(node, name, false),
            [name, "answered"] => Ok(Expect::Answered { name: self.request(name)?, answered: true }),
            [name, "open"] => Ok(Expect::Answered { name: self.request(name)?, answered: false }),
            [name, "committed", "once"] => Ok(Expect::CommittedOnce { name: self.request(name)? }),
            _ => Err(format!("nothing to expect in `{}`", words.join(" "))),
        }
    }

    fn node(&self, word: &str) -> Result<usize, String> {
        let node = number(word).filter(|node| *node < self.replicas);
        node.ok_or_else(|| format!("`{word}` is no replica; there are {}", self.replicas))
    }

    fn link(&self, from: &str, to: &str) -> Result<Link, String> {
        let end = |word| if word == "*" { Ok(None) } else { self.node(word).map(Some) };
        Ok(Link { from: end(from)?, to: end(to)? })
    }

    fn request(&self, name: &str) -> Result<String, String> {
        let known = self.known.iter().find(|known| *known == name);
        known.cloned().ok_or_else(|| format!("`{name}` has not been proposed"))
    }

    fn what(&self, words: &[&str]) -> Result<What, String> {
        let kind = |word: &str| {
            let kind = KINDS.iter().find(|kind| **kind == word).copied();
            kind.ok_or_else(|| format!("`{word}` is no kind of packet"))
        };
        match *words {
            [] => Ok(What { kind: None, request: None }),
            [word] => Ok(What { kind: Some(kind(word)?), request: None }),
            // A story holds back a request that has yet to be made.
            [word, name] => Ok(What { kind: Some(kind(word)?), request: Some(name.to_owned()) }),
            _ => Err(format!("`{}`: a kind of packet and a request", words.join(" "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(lines: &str) -> String {
        parse(lines).unwrap_err().to_string()
    }

    #[test]
    fn a_story_is_read() {
        let story = parse(
            "# words\nplant: B1\nreplicas 5\n\nhold 0 -> * Prepare a # late\npropose 0 a\nexpect a open",
        );
        let story = story.unwrap();
        assert_eq!((story.plant, story.replicas, story.lines.len()), (Plant::B1, 5, 3));
        let what = What { kind: Some("Prepare"), request: Some("a".into()) };
        let link = Link { from: Some(0), to: None };
        assert_eq!(story.lines[0].command, Command::Hold { link, what });
        assert_eq!(story.lines[0].number, 5);
    }

    #[test]
    fn what_says_nothing_is_an_error_with_its_line() {
        assert_eq!(error("plant: B1\n\ndance 1"), "line 3: unknown line `dance 1`");
        assert_eq!(error("plant: Z9"), "line 1: unknown planted bug `Z9`; `--plant list` names them");
        assert_eq!(error("plant: B1\nexpect 3 leads"), "line 2: `3` is no replica; there are 3");
        assert_eq!(error("plant: B1\nexpect a open"), "line 2: `a` has not been proposed");
        assert_eq!(error("plant: B1\ndrop 0 -> 1 Prepar"), "line 2: `Prepar` is no kind of packet");
        assert_eq!(
            error("propose 0 a\nexpect a open"),
            "line 2: no `plant:` line names what spoils this story"
        );
        assert_eq!(error("plant: B1\ntick 1"), "line 2: a story expects something");
        assert_eq!(error("tick 1\nplant: B1"), "line 2: this belongs before the story");
    }
}
