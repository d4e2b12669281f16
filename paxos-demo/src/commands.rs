//! What each subcommand does: one call each, and the exit code.

use std::io;
use std::time::Duration;

use crate::cli::{ClientArgs, ClientRequestArgs, Command, EXIT_DONE, EXIT_FAILED, KeyArgs};
use crate::client::{Client, ClientError};
use crate::cluster::{ClusterError, supervise};
use crate::config::{ClusterConfig, ConfigError};
use crate::key_file::KeyFileError;
use crate::key_file::edit::{self, Step};
use crate::serve::{self, ServeError};
use crate::session::Group;
use crate::stop::Stop;
use crate::{bench, demo, failover, groups, simulate, soak};

/// How long `client status` waits for each replica.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a command failed: the text is for people.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// `replica`.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// `client`.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// `cluster`.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// `bench`, `demo`, `failover`, `groups` and `soak`.
    #[error(transparent)]
    Bench(#[from] bench::BenchError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `key`.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// `simulate`.
    #[error(transparent)]
    Simulate(#[from] simulate::SimulateError),
    /// A namespace.
    #[error(transparent)]
    Netns(#[from] electrode::fabric::FabricError),
    /// Something of the process.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> CommandError {
    move |source| CommandError::System { action, source }
}

/// Runs a subcommand to its end and returns the exit code.
pub fn run(command: Command) -> Result<u8, CommandError> {
    // `replica` and `client` end with the signal itself or handle it on their own.
    let on_signals = || Stop::on_signals().map_err(system("handle signals"));
    match command {
        Command::Replica(args) => serve::run_replica(&args)?,
        Command::Simulate(args) => return Ok(simulate::simulate(&args)?),
        Command::Client(args) => return client(&args),
        Command::Key(args) => key(&args)?,
        Command::Cluster(args) => supervise::run(args, &on_signals()?)?,
        Command::Plot(args) => return Ok(bench::draw(&args)?),
        Command::Bench(args) => return Ok(bench::run(&args, &on_signals()?)?),
        Command::Failover(args) => return Ok(failover::run(&args, &on_signals()?)?),
        Command::Groups(args) => return Ok(groups::run(&args, &on_signals()?)?),
        Command::Soak(args) => return Ok(soak::run(&args, &on_signals()?)?),
        Command::Demo(args) => return Ok(demo::run(&args, &on_signals()?)?),
    }
    Ok(EXIT_DONE)
}

/// Takes a key file one step further and says what comes next.
fn key(args: &KeyArgs) -> Result<(), KeyFileError> {
    let (file, step, next) = match args {
        KeyArgs::New { file } => (file, Step::New, "give every member a copy and name it as key_file"),
        KeyArgs::Add { file } => (file, Step::Add, "once every member has read it, `key send` the new one"),
        KeyArgs::Send { file, id } => {
            (file, Step::Send(*id), "once every member has read it, `key drop` the old one")
        }
        KeyArgs::Drop { file, id } => (file, Step::Drop(*id), "let every member read it"),
    };
    let ids = edit::take(file, step)?;
    println!("{}: {ids}. Next: {next} (a replica reads its file again on SIGHUP).", file.display());
    Ok(())
}

fn client(args: &ClientArgs) -> Result<u8, CommandError> {
    let config = ClusterConfig::load(&args.config)?;
    if let Some(netns) = &args.netns {
        electrode::fabric::netns::enter_path(netns)?;
    }
    let mut group = Group::new(&config);
    if let Some(timeout_ms) = args.timeout_ms {
        group = group.with_timeout(Duration::from_millis(timeout_ms));
    }
    let mut client = Client::open(group).map_err(system("open a socket"))?;
    match &args.request {
        ClientRequestArgs::Get { key } => match client.get(key.as_bytes())? {
            Some(value) => println!("{}", String::from_utf8_lossy(&value)),
            None => println!("(nil)"),
        },
        ClientRequestArgs::Put { key, value } => {
            client.put(key.as_bytes(), value.as_bytes())?;
            println!("OK");
        }
        ClientRequestArgs::Delete { key } => println!("{}", u8::from(client.delete(key.as_bytes())?)),
        ClientRequestArgs::Status { json } => return status(&mut client, &config, *json),
    }
    Ok(EXIT_DONE)
}

/// What every replica says of itself; a silent one makes the exit code 1.
fn status(client: &mut Client, config: &ClusterConfig, json: bool) -> Result<u8, CommandError> {
    let statuses = client.statuses(STATUS_TIMEOUT).map_err(system("ask for status"))?;
    if json {
        println!("{}", serde_json::to_string(&statuses).expect("numbers and strings serialise"));
    } else {
        for (id, (status, address)) in statuses.iter().zip(&config.replicas).enumerate() {
            match status {
                Some(status) => {
                    let (replica, node) = (&status.replica, &status.node);
                    println!(
                        "replica {id} {address}: {:?} in view {}, last op {}, committed {}, applied {}, {} keys, \
                         digest {}, backend {} {}{}",
                        replica.role,
                        replica.view,
                        replica.last_op,
                        replica.commit,
                        replica.applied,
                        replica.keys,
                        replica.digest,
                        node.backend,
                        node.hook,
                        node.keys
                            .as_ref()
                            .map_or_else(String::new, |keys| format!(", authenticated: {keys}")),
                    );
                }
                None => println!("replica {id} {address}: does not answer"),
            }
        }
    }
    Ok(if statuses.iter().all(Option::is_some) { EXIT_DONE } else { EXIT_FAILED })
}
