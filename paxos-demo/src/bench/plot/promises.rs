//! What it costs to promise more: keys, and a log on disk.

use super::canvas::{Bar, Picture};
use super::{THROUGHPUT, colours, common, point};
use crate::config::Durability;
use crate::report::{Run, Series, Setting, series};

/// What differs between the bars.
pub const VARIED: &str = "promises";

/// Only what ran both with a promise and without it: other runs say nothing about its price.
pub fn draw(runs: &[Run]) -> Option<Picture> {
    let all = series(runs);
    let base = base(&all.iter().find(|of| promises(&of.setting)).map(|of| of.setting)?);
    let beside: Vec<_> = all.into_iter().filter(|of| self::base(&of.setting) == base).collect();
    let same = |a: &Series<'_>, b: &Series<'_>| (a.backend, a.offloads) == (b.backend, b.offloads);
    let is_there = |of: &Series<'_>, setting: Setting| {
        beside.iter().any(|other| same(of, other) && other.setting == setting)
    };
    let has_pair = |of: &&Series<'_>| {
        if promises(&of.setting) {
            is_there(of, base)
        } else {
            beside.iter().any(|other| same(of, other) && promises(&other.setting))
        }
    };
    let mut compared: Vec<&Series<'_>> = beside.iter().filter(has_pair).collect();
    // Each backend's bars beside each other.
    let place = |of: &Series<'_>| beside.iter().position(|other| same(of, other));
    compared.sort_by_key(|of| (place(of), of.setting.durability, of.setting.authentication));
    let mut names: Vec<String> = compared.iter().map(|of| of.name()).collect();
    names.dedup();
    let colours = colours(&names);
    let bars: Vec<Bar> = compared
        .into_iter()
        .filter_map(|of| {
            let colour = names.iter().position(|name| *name == of.name()).map(|at| colours[at])?;
            Some(Bar { name: name(of), colour, point: point(of, runs, 0.0, THROUGHPUT)? })
        })
        .collect();
    (bars.len() > 1).then(|| Picture::bars(common(&base, VARIED), "requests/s", bars))
}

fn base(setting: &Setting) -> Setting {
    Setting { authentication: false, durability: Durability::Memory, ..*setting }
}

fn promises(setting: &Setting) -> bool {
    base(setting) != *setting
}

/// A line for each promise.
fn name(of: &Series<'_>) -> String {
    let mut name = of.name();
    if of.setting.durability != Durability::Memory {
        name.push_str(&format!("\n+ {}", of.setting.durability));
    }
    if of.setting.authentication {
        name.push_str("\n+ keys");
    }
    name
}
