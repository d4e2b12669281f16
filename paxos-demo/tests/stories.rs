//! Protocol stories (`tests/scripts/*.txt`): each holds as it stands, and is spoiled by the bug that it names.

use std::fs;
use std::path::{Path, PathBuf};

use paxos_demo::plant::{Plant, Plants};
use paxos_demo::simulate::story::{Story, Told};

/// A story holds however long processes take to wake up, which is all that a seed decides.
const SEEDS: u64 = 8;

fn stories() -> Vec<(String, Story)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let entries = fs::read_dir(&folder).expect("the folder of stories");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "txt"));
    paths.sort();
    let only = std::env::var("STORY").unwrap_or_default();
    let named = paths.into_iter().map(|path| {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a readable story");
        let story = Story::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, story)
    });
    named.filter(|(name, _)| name.starts_with(&only)).collect()
}

/// The defects that were known before any code was written, in the artifact and in the VR that it builds on.
const DEFECTS: [Plant; 15] = [
    Plant::A1,
    Plant::A2,
    Plant::A3,
    Plant::A4,
    Plant::A5,
    Plant::A6,
    Plant::A7,
    Plant::A8,
    Plant::A9,
    Plant::A11,
    Plant::A17,
    Plant::B1,
    Plant::B2,
    Plant::B3,
    Plant::B4,
];

#[test]
fn every_defect_has_its_story() {
    let told: Vec<_> = stories().iter().map(|(_, story)| story.plant()).collect();
    let missing: Vec<_> = DEFECTS.iter().filter(|defect| !told.contains(defect)).collect();
    assert!(missing.is_empty() || std::env::var_os("STORY").is_some(), "no story tells {missing:?}");
}

/// What a reader of a failure needs: the lines that were told, and all that happened.
fn show(told: &Told) -> String {
    told.trace.join("\n")
}

/// Fails at the end, so that one run names every story that went wrong.
fn fail_if_any(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}\n(`STORY=a1 cargo test --test stories` tells one)", wrong.join("\n"));
}

#[test]
fn every_story_holds() {
    let mut wrong = Vec::new();
    for (name, story) in stories() {
        for seed in 0..SEEDS {
            let told = story.tell(seed, Plants::NONE);
            if let Some(spoiled) = &told.spoiled {
                println!("{name}, seed {seed}:\n{}", show(&told));
                wrong.push(format!("{name}, seed {seed}: {spoiled}"));
                break;
            }
        }
    }
    fail_if_any(&wrong);
}

#[test]
fn every_story_is_spoiled_by_its_bug() {
    let mut wrong = Vec::new();
    for (name, story) in stories() {
        for seed in 0..SEEDS {
            let told = story.tell(seed, story.plant().into());
            match &told.spoiled {
                Some(spoiled) if seed == 0 => println!("{name}: {spoiled}"),
                Some(_) => {}
                None => {
                    println!("{name}, seed {seed}:\n{}", show(&told));
                    wrong.push(format!("{name}, seed {seed}: holds although {} is planted", story.plant()));
                    break;
                }
            }
        }
    }
    fail_if_any(&wrong);
}
