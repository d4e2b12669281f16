use super::*;
use files::RealFiles;

const ID: ReplicaId = ReplicaId(1);
const HASH: u64 = 0xfeed_0000_0000_0009;

fn memory(dir: &Path, bootstrap: bool) -> Result<Opened, StorageError> {
    open(dir, Durability::Memory, ID, HASH, bootstrap)
}

/// `Opened` has no `Debug`: its storage has none.
fn refused(opened: Result<Opened, StorageError>) -> StorageError {
    opened.err().expect("refused")
}

#[test]
fn a_first_life_has_to_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let error = refused(memory(dir.path(), false));
    assert!(matches!(error, StorageError::NoState { id: ID, .. }), "{error}");
    assert!(error.to_string().contains("--bootstrap"), "{error}");
    let opened = memory(dir.path(), true).unwrap();
    assert!(opened.first_life);
    assert_eq!((opened.persisted.view, opened.persisted.last_normal_view), (View(0), View(0)));
}

#[test]
fn a_later_life_knows_the_view_and_has_a_greater_incarnation() {
    let dir = tempfile::tempdir().unwrap();
    let mut incarnations = Vec::new();
    for life in 0..5u64 {
        // A repeated --bootstrap is a restart.
        let mut opened = memory(dir.path(), life < 3).unwrap();
        assert_eq!(opened.first_life, life == 0);
        assert_eq!(opened.persisted.view, View(7 * life));
        assert_eq!(opened.persisted.last_normal_view, View(6 * life));
        incarnations.push(opened.persisted.incarnation);
        opened.storage.save_state(View(7 * (life + 1)), View(6 * (life + 1))).unwrap();
    }
    assert!(incarnations.is_sorted_by(|a, b| a < b), "{incarnations:?}");
}

/// D6: what tells a lost directory from one that has been there all the time, on both sides.
#[test]
fn later_lives_know_the_first_one_and_whom_they_met() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = memory(dir.path(), true).unwrap();
    let born = opened.persisted.born;
    assert_eq!(born, opened.persisted.incarnation);
    opened.storage.save_member(ReplicaId(2), 7).unwrap();
    drop(opened);
    let mut opened = memory(dir.path(), false).unwrap();
    assert!(opened.first_life, "to meet somebody promises nothing");
    opened.storage.save_member(ReplicaId(0), 5).unwrap();
    opened.storage.save_state(View(1), View(0)).unwrap();
    drop(opened);
    let opened = memory(dir.path(), false).unwrap();
    assert!(!opened.first_life && opened.persisted.incarnation > born);
    assert_eq!((opened.persisted.born, opened.persisted.met), (born, vec![5, 0, 7]));
}

#[test]
fn somebody_elses_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    memory(dir.path(), true).unwrap();
    let open = |mode, id, hash| open(dir.path(), mode, id, hash, true);
    let error = refused(open(Durability::Memory, ReplicaId(2), HASH));
    assert!(matches!(error, StorageError::WrongReplica { found: ID, .. }), "{error}");
    let error = refused(open(Durability::Memory, ID, HASH + 1));
    assert!(matches!(error, StorageError::WrongConfig { found: HASH, .. }), "{error}");
    let error = refused(open(Durability::Process, ID, HASH));
    assert!(matches!(error, StorageError::Unsupported(Durability::Process)), "{error}");
    memory(dir.path(), false).unwrap();
}

#[test]
fn a_damaged_state_file_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    memory(dir.path(), true).unwrap().storage.save_state(View(31), View(30)).unwrap();
    let path = dir.path().join("replica.json");
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        match memory(dir.path(), true) {
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert_eq!(std::fs::read(&path).unwrap(), bad, "byte {at}");
            }
            // White space may be another white space.
            Ok(opened) => assert_eq!(opened.persisted.view, View(31), "byte {at}"),
        }
    }
    for end in 0..good.len() {
        std::fs::write(&path, &good[..end]).unwrap();
        let error = refused(memory(dir.path(), true));
        assert!(matches!(error, StorageError::Damaged { .. }), "cut at {end}: {error}");
    }
}

#[test]
fn the_directory_is_locked_while_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let opened = memory(dir.path(), true).unwrap();
    let error = refused(memory(dir.path(), true));
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    drop(opened);
    drop(RealFiles::open(dir.path()).unwrap());
}
