//! What a story does to packets and programs: the hooks of the world that only stories use.

use std::net::SocketAddr;

use electrode::abi::{Header, Kind};
use electrode::model::{Run, frame};
use electrode::types::ReplicaId;
use electrode::wire;
use zerocopy::IntoBytes;

use super::super::check::replay::Answer;
use super::super::weather::US;
use super::super::wire::{build, datagram};
use super::super::world::{Frame, Happening, World};
use super::script::{Link, What};
use crate::codec;
use crate::config::ClusterConfig;
use crate::message::{ClientRequest, Packet, ReplyStatus};
use crate::session::Group;
use crate::state_machine::Command;

/// How long a packet travels. All the same, so that none overtakes another unless it is held back.
const TRAVEL_NS: u64 = 50 * US;
/// Where forged packets come from.
const STRANGER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 9, 9)), 7000);

/// What becomes of packets that match.
struct Rule {
    from: usize,
    to: usize,
    what: What,
    /// Kept back; otherwise lost.
    hold: bool,
}

/// A packet that was seen on a link.
#[derive(Clone)]
struct Packed {
    from: usize,
    to: usize,
    at: u64,
    /// Lives of sender and receiver then.
    lives: [u32; 2],
    frame: Frame,
}

/// A client with its only request.
struct Asked {
    name: String,
    addr: SocketAddr,
    client: u64,
    command: Vec<u8>,
    answered: bool,
}

/// A program that shall stop, or has.
struct Stall {
    what: What,
    step: String,
    stopped: bool,
}

/// The state of a story in the world.
pub(in super::super) struct Stage {
    group: Group,
    rules: Vec<Rule>,
    held: Vec<Packed>,
    seen: Vec<Packed>,
    asked: Vec<Asked>,
    /// By replica.
    stalls: Vec<Vec<Stall>>,
    /// Sockets without room.
    pub full: Vec<bool>,
}

impl Stage {
    pub(super) fn new(config: &ClusterConfig, keys: bool) -> Self {
        let members = config.replicas.len();
        Self {
            group: Group::new(config).with_keys(config, keys),
            rules: Vec::new(),
            held: Vec::new(),
            seen: Vec::new(),
            asked: Vec::new(),
            stalls: (0..members).map(|_| Vec::new()).collect(),
            full: vec![false; members],
        }
    }

    fn asked(&self, name: &str) -> &Asked {
        self.asked.iter().find(|asked| asked.name == name).expect("the script knows its requests")
    }

    /// Session of a request.
    pub(super) fn client(&self, name: &str) -> u64 {
        self.asked(name).client
    }

    pub(super) fn is_answered(&self, name: &str) -> bool {
        self.asked(name).answered
    }

    /// What stands in every packet that carries this request.
    fn mark(name: &str) -> Vec<u8> {
        format!("<story {name}>").into_bytes()
    }

    /// Whether a frame on this link is one of these.
    fn is(&self, what: &What, frame: &[u8]) -> bool {
        what.kind.is_none_or(|kind| kind_of(frame).as_deref() == Some(kind))
            && what.request.as_deref().is_none_or(|name| self.carries(frame, name))
    }

    /// Whether a packet carries a request, or is the answer to one that did.
    fn carries(&self, frame: &[u8], name: &str) -> bool {
        let mark = Self::mark(name);
        if frame.windows(mark.len()).any(|bytes| bytes == mark) {
            return true;
        }
        let Some(ack) = header(frame).filter(|header| header.kind() == Some(Kind::PrepareOk)) else {
            return false;
        };
        self.seen.iter().any(|seen| {
            let prepare = header(&seen.frame).filter(|header| header.kind() == Some(Kind::Prepare));
            prepare.is_some_and(|prepare| (prepare.view(), prepare.last()) == (ack.view(), ack.last()))
                && seen.frame.windows(mark.len()).any(|bytes| bytes == mark)
        })
    }

    fn last_seen(&self, from: usize, to: usize, what: &What) -> Option<&Packed> {
        self.seen.iter().rfind(|seen| (seen.from, seen.to) == (from, to) && self.is(what, &seen.frame))
    }

    pub(super) fn rule(&mut self, link: Link, what: &What, hold: bool) {
        let members = self.full.len();
        for from in (0..members).filter(|from| link.from.is_none_or(|only| only == *from)) {
            for to in (0..members).filter(|to| *to != from && link.to.is_none_or(|only| only == *to)) {
                self.rules.push(Rule { from, to, what: what.clone(), hold });
            }
        }
    }
}

impl What {
    /// Any packet.
    pub(super) const ANY: Self = Self { kind: None, request: None };

    /// Whether all that is `other` is this, too.
    fn covers(&self, other: &Self) -> bool {
        (self.kind.is_none() || self.kind == other.kind)
            && (self.request.is_none() || self.request == other.request)
    }
}

impl Link {
    fn has(self, from: usize, to: usize) -> bool {
        self.from.is_none_or(|only| only == from) && self.to.is_none_or(|only| only == to)
    }
}

fn header(frame: &[u8]) -> Option<Header> {
    wire::parse(datagram(frame)?).ok().map(|(header, _)| *header)
}

/// The kind of a packet, as stories call it.
fn kind_of(frame: &[u8]) -> Option<String> {
    let (header, body) = wire::parse(datagram(frame)?).ok()?;
    Some(match header.kind()? {
        Kind::Message => match Packet::parse(body).ok()? {
            Packet::Peer(bytes) => {
                let text = format!("{:?}", codec::decode(bytes).ok()?);
                text.split(|c: char| !c.is_alphanumeric()).next()?.to_owned()
            }
            _ => return None,
        },
        kind => format!("{kind:?}"),
    })
}

impl World {
    pub(super) fn stage(&mut self) -> &mut Stage {
        self.stage.as_mut().expect("only stories ask")
    }

    /// A packet leaves for another replica.
    pub(in super::super) fn staged_carry(&mut self, from: usize, to: usize, frame: Frame) {
        let at = self.now + TRAVEL_NS;
        let (now, lives) = (self.now, [from, to].map(|node| self.nodes[node].life));
        let stage = self.stage();
        let packed = Packed { from, to, at: now, lives, frame };
        stage.seen.push(packed.clone());
        let meets = |rule: &&Rule| (rule.from, rule.to) == (from, to) && stage.is(&rule.what, &packed.frame);
        let (mut lost, mut kept) = (false, false);
        for rule in stage.rules.iter().filter(meets) {
            lost |= !rule.hold;
            kept |= rule.hold;
        }
        if kept && !lost {
            stage.held.push(packed);
        } else if !lost {
            self.plan(at, Happening::Arrive { node: to, frame: packed.frame });
        }
    }

    /// What was kept back on links arrives in its order, and nothing is kept back there any more.
    pub(super) fn release(&mut self, link: Link) {
        let stage = self.stage();
        stage.rules.retain(|rule| !(rule.hold && link.has(rule.from, rule.to)));
        let (free, held) =
            std::mem::take(&mut stage.held).into_iter().partition(|packed| link.has(packed.from, packed.to));
        stage.held = held;
        let at = self.now + TRAVEL_NS;
        let free: Vec<Packed> = free;
        for Packed { to, frame, .. } in free {
            self.plan(at, Happening::Arrive { node: to, frame });
        }
    }

    /// All links work again, or those of one replica.
    pub(super) fn heal(&mut self, node: Option<usize>) {
        self.stage().rules.retain(|rule| rule.hold || node.is_some_and(|n| n != rule.from && n != rule.to));
        self.release(Link { from: node, to: None });
        self.release(Link { from: None, to: node });
    }

    /// A packet that was seen arrives once more.
    pub(super) fn repeat(&mut self, from: usize, to: usize, what: &What) -> Result<(), String> {
        let seen = self.stage().last_seen(from, to, what).ok_or("no such packet was seen on this link")?;
        let frame = seen.frame.clone();
        let at = self.now + TRAVEL_NS;
        self.plan(at, Happening::Arrive { node: to, frame });
        Ok(())
    }

    /// Somebody recorded these links and plays it all back, at the pace at which it was said: what was sent in an
    /// earlier life of sender or receiver.
    pub(super) fn replay(&mut self, link: Link, what: &What) -> Result<(), String> {
        let lives: Vec<u32> = self.nodes.iter().map(|machine| machine.life).collect();
        let stage = self.stage();
        let kept = |seen: &&Packed| {
            link.has(seen.from, seen.to)
                && seen.lives != [lives[seen.from], lives[seen.to]]
                && stage.is(what, &seen.frame)
        };
        let kept: Vec<Packed> = stage.seen.iter().filter(kept).cloned().collect();
        let began = kept.first().ok_or("no such packet of an earlier life was seen there")?.at;
        let begins = self.now + TRAVEL_NS;
        for Packed { to, at, frame, .. } in kept {
            self.plan(begins + (at - began), Happening::Arrive { node: to, frame });
        }
        Ok(())
    }

    /// A packet as this link could carry it, but from a stranger's address.
    pub(super) fn forge_staged(&mut self, from: usize, to: usize, what: &What) -> Result<(), String> {
        let life = self.nodes[from].life;
        let stage = self.stage();
        let payload = if let Some(seen) = stage.last_seen(from, to, what) {
            datagram(&seen.frame).unwrap_or_default().to_vec()
        } else {
            // An ack that nobody gave: it answers a Prepare that was sent.
            let prepare = What { kind: Some("Prepare"), ..what.clone() };
            let seen = stage.last_seen(to, from, &prepare).filter(|_| what.kind == Some("PrepareOk"));
            let prepare = seen.and_then(|seen| header(&seen.frame)).ok_or("nothing like it was seen")?;
            wire::prepare_ok(&prepare, ReplicaId(from as u8), life, prepare.last()).as_bytes().to_vec()
        };
        let frame = build(STRANGER, self.nodes[to].addr, &payload);
        let at = self.now + TRAVEL_NS;
        self.plan(at, Happening::Arrive { node: to, frame });
        Ok(())
    }

    /// A client asks for the first time.
    pub(super) fn propose(&mut self, to: usize, name: &str) {
        let stage = self.stage();
        let number = stage.asked.len() as u8 + 1;
        let mut command = Vec::new();
        let value = Stage::mark(name);
        Command::Set { key: name.as_bytes(), value: &value }.encode(&mut command).expect("a short key");
        stage.asked.push(Asked {
            name: name.to_owned(),
            addr: ([10, 2, 0, number], 9000).into(),
            client: 100 + u64::from(number),
            command,
            answered: false,
        });
        self.ask(to, name);
    }

    /// A client asks (again).
    pub(super) fn ask(&mut self, to: usize, name: &str) {
        let stage = self.stage();
        let Asked { addr, client, command, .. } = stage.asked(name);
        let (addr, mut packet) = (*addr, Vec::new());
        let request = ClientRequest { client: *client, request: 1, attempt: 1, command };
        stage.group.encode_request(&request, &mut packet);
        let frame = build(addr, self.nodes[to].addr, &packet);
        let at = self.now + TRAVEL_NS;
        self.plan(at, Happening::Arrive { node: to, frame });
    }

    /// A packet leaves for somebody who is no replica: maybe a client of the story.
    pub(in super::super) fn staged_answer(&mut self, to: SocketAddr, bytes: &Frame) {
        let Self { stage: Some(stage), checker, clients, trace, now, .. } = self else { return };
        let Some(asked) = stage.asked.iter_mut().find(|asked| asked.addr == to) else { return };
        let Ok(datagram) = frame::parse(bytes, to) else { return };
        let Some(reply) = stage.group.parse_reply(datagram.payload(bytes)) else { return };
        trace.line(*now, |line| line.push_str(&format!("`{}` is answered: {:?}", asked.name, reply.status)));
        if reply.status != ReplyStatus::Ok || reply.client != asked.client {
            return;
        }
        asked.answered = true;
        let answer = Answer {
            client: reply.client,
            request: reply.request,
            command: asked.command.clone(),
            result: reply.result.to_vec(),
            after: 0,
        };
        let checked = clients.replay.answered(checker.committed_ops(), answer).map(|_| ());
        self.violate(checked);
    }

    /// Packets meet the first CPU that is not stopped.
    pub(in super::super) fn staged_cpu(&self, node: usize) -> usize {
        self.nodes[node].cpus.iter().position(|cpu| !cpu.planned).unwrap_or(0)
    }

    /// The next program on such a packet shall stop before this step.
    pub(super) fn stall(&mut self, node: usize, what: &What, step: &str) {
        self.stage().stalls[node].push(Stall { what: what.clone(), step: step.to_owned(), stopped: false });
    }

    /// Lets a program run to where a story stops it, or to its end. Whether the story has a word about it.
    pub(in super::super) fn staged_stall(&mut self, node: usize, cpu: usize) -> bool {
        let Self { stage: Some(stage), nodes, .. } = self else { return false };
        let Some(run) = &nodes[node].cpus[cpu].run else { return false };
        let meets = |stall: &Stall| !stall.stopped && stage.is(&stall.what, run.frame());
        let Some(index) = stage.stalls[node].iter().position(meets) else { return false };
        let step = stage.stalls[node][index].step.clone();
        let there = |world: &Self| {
            let run = world.nodes[node].cpus[cpu].run.as_ref();
            run.is_some_and(|run| run.next_step().contains(&step))
        };
        while !there(self) {
            if self.step_cpu(node, cpu) {
                return true;
            }
        }
        self.nodes[node].cpus[cpu].planned = true;
        let now = self.now;
        self.trace.line(now, |line| line.push_str(&format!("r{node} cpu{cpu} is stopped before {step}")));
        self.stage().stalls[node][index].stopped = true;
        true
    }

    /// Stopped programs on such packets go on.
    pub(super) fn resume(&mut self, node: usize, what: &What) -> Result<(), String> {
        let Self { stage: Some(stage), nodes, .. } = self else { return Ok(()) };
        let before = stage.stalls[node].len();
        stage.stalls[node].retain(|stall| !(stall.stopped && what.covers(&stall.what)));
        let stopped = before > stage.stalls[node].len();
        let goes_on = |run: Option<&Run>| run.is_none_or(|run| stage.is(what, run.frame()));
        let cpus = &nodes[node].cpus;
        let cpus: Vec<_> = (0..cpus.len()).filter(|cpu| goes_on(cpus[*cpu].run.as_ref())).collect();
        for cpu in cpus {
            self.nodes[node].cpus[cpu].planned = false;
            self.run_cpu(node, cpu);
        }
        if stopped { Ok(()) } else { Err("no such program was stopped there".into()) }
    }

    /// Whether the socket of this replica has no room.
    pub(in super::super) fn staged_full(&self, node: usize) -> bool {
        self.stage.as_ref().is_some_and(|stage| stage.full[node])
    }
}
