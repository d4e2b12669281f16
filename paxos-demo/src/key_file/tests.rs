use super::edit::{Step, take};
use super::*;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

const ONE: &str = "00112233445566778899aabbccddeeff";
const TWO: &str = "ffeeddccbbaa99887766554433221100";

fn two() -> String {
    format!("send = 2\n\n[[keys]]\nid = 1\nsecret = \"{ONE}\"\n\n[[keys]]\nid = 2\nsecret = \"{TWO}\"\n")
}

fn write(dir: &Path, text: &str, mode: u32) -> PathBuf {
    let path = dir.join("keys.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

fn refusal(text: &str) -> (usize, String) {
    parse::parse(text).expect_err("must be refused")
}

#[track_caller]
fn refused(text: &str, line: usize, words: &str) {
    let (at, reason) = refusal(text);
    assert!(reason.contains(words), "reason is '{reason}', expected '{words}' in it");
    assert_eq!(at, line, "{reason}");
}

#[test]
fn two_keys_and_the_one_that_sends() {
    let file = parse::parse(&two()).unwrap();
    assert_eq!(file.ids(), KeyIds { sends: 2, accepts: vec![1, 2] });
    let keys = file.keys();
    assert_eq!(keys.sends_with().id(), 2);
    assert_eq!(keys.in_slot(1).unwrap(), &Key::new(1, std::array::from_fn(|i| 0x11 * i as u8)).unwrap());
    let written = parse::write(&file);
    assert_eq!(parse::parse(&written).unwrap(), file);
    assert!(written.len() < 1024, "{} bytes: it grew while it was written", written.len());
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    let with = |from: &str, to: &str| two().replacen(from, to, 1);
    refused(&with("send = 2", "send = 3"), 1, "send = 3: the file has key 1 and 2");
    refused(&with("send = 2", "sends = 2"), 1, "unknown field");
    refused(&with("id = 1", "id = 4"), 8, "keys 4 and 2 cannot be told apart");
    refused(&with("id = 1", "id = 2"), 8, "key 2 is there twice");
    refused(&with("id = 1", "id = -1"), 4, "expected u32");
    refused(&with(ONE, &ONE[1..]), 5, "32 hex digits");
    refused(&with(ONE, &ONE.replace("00", "+1")), 5, "0 to 9 and a to f");
    refused(&with(ONE, &"0".repeat(32)), 5, "all zeros");
    refused(&with(ONE, TWO), 9, "the same secret");
    refused(&format!("{}\n[[keys]]\nid = 3\nsecret = \"{ONE}\"\n", two()), 3, "3 keys");
    refused("send = 1\nkeys = []\n", 2, "0 keys");
    refused("send = 1\n", 1, "missing field");
    refused(&with("id = 1", "id = 1\nname = \"x\""), 5, "unknown field");
}

/// Whatever is wrong with the file, nobody who reads the error learns a secret.
#[test]
fn no_error_repeats_a_secret() {
    let mut texts = Vec::new();
    for (from, to) in [
        (format!("\"{ONE}\""), ONE.to_owned()),
        (format!("\"{ONE}\""), "112233445566778899".to_owned()),
        (format!("\"{ONE}\""), "[\"112233445566778899\"]".to_owned()),
        (format!("secret = \"{ONE}\""), format!("{ONE} = 1")),
        (format!("secret = \"{ONE}\""), format!("\"{ONE}\" = 1\n\"{ONE}\" = 1")),
        ("id = 1".to_owned(), format!("id = \"{ONE}\"")),
        ("send = 2".to_owned(), format!("send = \"{ONE}\"")),
        (format!("{ONE}\""), ONE.to_owned()),
        (ONE.to_owned(), format!("{ONE}{TWO}")),
        (ONE.to_owned(), ONE.replace('0', "g")),
        ("[[keys]]".to_owned(), format!("[[{ONE}]]")),
    ] {
        texts.push(two().replacen(&from, &to, 1));
    }
    // Cut anywhere, and without any one byte.
    texts.extend((0..two().len()).map(|end| two()[..end].to_owned()));
    texts.extend((0..two().len()).map(|at| two()[..at].to_owned() + &two()[at + 1..]));
    for text in texts {
        let Err((_, reason)) = parse::parse(&text) else { continue };
        for secret in [ONE, TWO, "112233445566778899", "gg1122"] {
            assert!(!reason.contains(&secret[..6]), "{reason}");
        }
    }
    let shown = format!("{:?}", parse::parse(&two()).unwrap());
    assert!(shown.contains("accepts: [1, 2]") && !shown.contains("0x") && !shown.contains("aabb"), "{shown}");
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o640, 0o604, 0o620, 0o644, 0o610] {
        let error = KeyFile::load(&write(dir.path(), &two(), mode)).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains(&format!("{mode:04o}")), "{error}");
    }
    for mode in [0o600, 0o400] {
        KeyFile::load(&write(dir.path(), &two(), mode)).unwrap();
    }
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    assert!(KeyFile::load(&dir.path().join("none")).unwrap_err().to_string().contains("cannot read"));
    assert!(KeyFile::load(dir.path()).unwrap_err().to_string().contains("no regular file"));
    let pipe = dir.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(KeyFile::load(&pipe).unwrap_err().to_string().contains("no regular file"));
    let long = write(dir.path(), &two().repeat(200), 0o600);
    assert!(KeyFile::load(&long).unwrap_err().to_string().contains("far too long"));
}

#[test]
fn a_change_of_keys_in_three_steps() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.toml");
    let ids = |sends, accepts: &[u32]| KeyIds { sends, accepts: accepts.to_vec() };
    assert_eq!(take(&path, Step::New).unwrap(), ids(1, &[1]));
    let first = KeyFile::load(&path).unwrap();
    let refused = |step, words: &str| {
        let before = std::fs::read(&path).unwrap();
        let error = take(&path, step).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    };
    refused(Step::New, "exists");
    refused(Step::Send(2), "no key 2");
    refused(Step::Drop(1), "send with another one first");
    assert_eq!(take(&path, Step::Add).unwrap(), ids(1, &[1, 2]));
    refused(Step::Add, "two keys already");
    refused(Step::Drop(1), "send with another one first");
    assert_eq!(take(&path, Step::Send(2)).unwrap(), ids(2, &[1, 2]));
    assert_eq!(take(&path, Step::Drop(1)).unwrap(), ids(2, &[2]));
    assert_eq!(take(&path, Step::Add).unwrap(), ids(2, &[2, 3]));
    let last = KeyFile::load(&path).unwrap();
    assert_ne!(first.keys[0].1, last.keys[0].1, "another secret");
    assert_ne!(last.keys[0].1, last.keys[1].1);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no other file of any name is left");
}

/// As configuration managers like it: the name is a link.
#[test]
fn a_link_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (path, link) = (dir.path().join("keys.toml"), dir.path().join("link"));
    take(&path, Step::New).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    take(&link, Step::Add).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(KeyFile::load(&path).unwrap().ids().accepts, [1, 2]);
}

#[test]
fn a_file_is_read_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    // As long as it may be: comments count.
    let longest = format!("{}#{}", two(), "x".repeat(FILE_BYTES_MAX as usize - two().len() - 1));
    assert_eq!(KeyFile::load(&write(dir.path(), &longest, 0o600)).unwrap().ids().accepts, [1, 2]);
    let error = KeyFile::load(&write(dir.path(), &format!("{longest}x"), 0o600)).unwrap_err();
    assert!(matches!(error, KeyFileError::NotAFile { .. }), "{error}");
    let path = write(dir.path(), "", 0o600);
    assert!(matches!(KeyFile::load(&path), Err(KeyFileError::Line { .. })));
    std::fs::write(&path, b"send = 1\n\xff\xff\n").unwrap();
    let error = KeyFile::load(&path).unwrap_err();
    assert!(matches!(error, KeyFileError::Line { line: 2, .. }), "{error}");
    // Somebody writes it while it is read.
    let file = open(&path).unwrap().0;
    assert_eq!(read(file.try_clone().unwrap()).unwrap().len(), 12);
    assert!(file.metadata().unwrap().len() == 12 && read(file).is_err(), "nothing is left of it");
}
