//! Runs fuzz targets on mutations of the kept corpus, and keeps that corpus. `scripts/fuzz` is the coverage-guided
//! way and calls this to unpack and pack.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use electrode_fuzz::mutate::Mutator;
use electrode_fuzz::{ALL, Target, corpus, targets};

#[derive(Parser)]
#[command(about = "Fuzz targets of Electrode: every parser that meets the outside")]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Names of all targets.
    List,
    /// Mutations of the kept corpus, by seed, without coverage feedback.
    Run {
        /// Targets; all if none is named.
        targets: Vec<String>,
        /// Executions of each; as many as `scripts/test` asks for otherwise.
        #[arg(long)]
        executions: Option<u64>,
        /// First seed.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Runs one target on files.
    Check {
        /// Its name.
        target: String,
        /// Inputs.
        files: Vec<PathBuf>,
    },
    /// The longest input of a target.
    BytesMax {
        /// Its name.
        target: String,
    },
    /// Writes the corpus of a target, its seeds and its regressions as a file each, and a dictionary.
    Unpack {
        /// Its name.
        target: String,
        /// Directory of inputs.
        dir: PathBuf,
        /// Dictionary for libFuzzer.
        dictionary: PathBuf,
    },
    /// Replaces the corpus of a target by the files of a directory.
    Pack {
        /// Its name.
        target: String,
        /// Directory of inputs.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("electrode-fuzz: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(verb: Verb) -> io::Result<ExitCode> {
    match verb {
        Verb::List => ALL.iter().for_each(|target| println!("{}", target.name)),
        Verb::Run { targets, executions, seed } => return run(&targets, executions, seed),
        Verb::Check { target, files } => {
            let target = find(&target)?;
            for file in files {
                println!("{}", file.display());
                (target.run)(&fs::read(file)?);
            }
        }
        Verb::BytesMax { target } => println!("{}", find(&target)?.bytes_max),
        Verb::Unpack { target, dir, dictionary } => unpack(find(&target)?, &dir, &dictionary)?,
        Verb::Pack { target, dir } => {
            let inputs = corpus::files(&dir)?.into_iter().map(|(_, bytes)| bytes).collect();
            corpus::write(find(&target)?.name, inputs)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn find(name: &str) -> io::Result<&'static Target> {
    targets::find(name).ok_or_else(|| io::Error::other(format!("no target is called {name}; try `list`")))
}

fn run(names: &[String], executions: Option<u64>, seed: u64) -> io::Result<ExitCode> {
    let chosen = match names {
        [] => ALL.iter().map(|target| find(target.name)).collect::<io::Result<Vec<_>>>()?,
        names => names.iter().map(|name| find(name)).collect::<io::Result<_>>()?,
    };
    // Two targets at a time where there are two processors: each is one thread.
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || -> io::Result<bool> {
        let mut good = true;
        while let Some(target) = chosen.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            good &= run_one(target, executions.unwrap_or(target.thousands * 1000), seed)?;
        }
        Ok(good)
    };
    let results: Vec<io::Result<bool>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("inputs that break a target are caught"))
            .collect()
    });
    let good = results.into_iter().collect::<io::Result<Vec<bool>>>()?;
    Ok(if good.into_iter().all(|good| good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// False if an input broke the target; that input is kept as a regression.
fn run_one(target: &'static Target, executions: u64, seed: u64) -> io::Result<bool> {
    let kept = kept(target)?;
    let mut mutator = Mutator::new(target, &kept, seed);
    let began = Instant::now();
    let mut told = began;
    for done in 0..executions {
        let input = mutator.next_input();
        if std::panic::catch_unwind(|| (target.run)(&input)).is_err() {
            let dir = corpus::regressions(target.name);
            fs::create_dir_all(&dir)?;
            let path = dir.join(format!("seed-{seed}-{done}"));
            fs::write(&path, &input)?;
            println!("FAILED: {}: the input is kept as {}", target.name, path.display());
            return Ok(false);
        }
        if told.elapsed() >= Duration::from_secs(10) {
            told = Instant::now();
            println!("{}: {done} of {executions} executions", target.name);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{}: {executions} executions of mutations of {} inputs in {seconds:.1} s",
        target.name,
        kept.len()
    );
    Ok(true)
}

/// Everything that there is to begin with.
fn kept(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let mut kept = (target.seeds)();
    kept.extend(corpus::read(target.name)?);
    kept.extend(corpus::files(&corpus::regressions(target.name))?.into_iter().map(|(_, bytes)| bytes));
    Ok(kept)
}

fn unpack(target: &Target, dir: &Path, dictionary: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (number, input) in kept(target)?.iter().enumerate() {
        fs::write(dir.join(format!("kept-{number:05}")), input)?;
    }
    let entry = |word: &&[u8]| {
        let bytes: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("\"{bytes}\"\n")
    };
    fs::write(dictionary, target.words.iter().map(entry).collect::<String>())
}
