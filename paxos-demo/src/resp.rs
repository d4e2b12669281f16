//! Redis clients (RESP2) of the group: any replica serves, each connection is a client session of its own.
//!
//! It runs on a thread of its own and talks to the group over UDP like any client, so the replica's loop
//! knows nothing of it. Requests of one connection are executed one after the other, in order, however many
//! the client has sent ahead.
//!
//! | file | |
//! |---|---|
//! | [`wire`] | bytes to arguments, replies to bytes; bounded |
//! | [`command`] | what a request means, errors as Redis words them |
//! | [`remote`] | the session of one connection with the group |

pub mod command;
pub mod remote;
pub mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::command::{Answer, Connection};
use self::remote::Remote;
use crate::session::Group;

/// Connections at a time. Each holds two descriptors and at most [`wire::REQUEST_BYTES_MAX`] of input.
pub const CONNECTIONS_MAX: usize = 256;
/// Replies gathered before they are written, when a client has sent many requests ahead.
const OUTPUT_BYTES: usize = 16 * 1024;
/// Pause after a failed accept: without descriptors it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The front-end of one replica; dropping it closes all connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `listener`. The group is reached from the network namespace of the calling thread; member
    /// `target` is asked first.
    pub fn start(listener: std::net::TcpListener, group: Group, target: usize) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("resp".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    result = accept(listener, group, target) => {
                        if let Err(error) = result {
                            eprintln!("Redis clients are not served any more: {error}");
                        }
                    }
                    _ = stopped => {}
                }
            });
            // Connections end with the runtime.
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: std::net::TcpListener, group: Group, target: usize) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let group = Arc::new(group);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut number = 0;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        number += 1;
        match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => {
                tokio::spawn(serve(stream, Arc::clone(&group), target, number, slot));
            }
            Err(_) => {
                // A few bytes into an empty buffer: this does not block.
                let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            }
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    group: Arc<Group>,
    target: usize,
    number: u64,
    _slot: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    let remote = match Remote::open(group, target).await {
        Ok(remote) => remote,
        Err(error) => {
            let text = format!("-ERR cannot reach the group: {error}\r\n");
            let _ = stream.write_all(text.as_bytes()).await;
            return;
        }
    };
    // A client that goes away, whenever it does, is no error.
    let _ = converse(&mut stream, Connection::new(remote, number)).await;
}

async fn converse(stream: &mut TcpStream, mut connection: Connection) -> io::Result<()> {
    let mut input = Vec::new();
    let mut output = Vec::new();
    loop {
        let mut taken = 0;
        loop {
            match wire::next_request(&input[taken..]) {
                Ok(Some((arguments, length))) => {
                    taken += length;
                    // An empty line or array asks for nothing.
                    if arguments.is_empty() {
                        continue;
                    }
                    let answer = connection.execute(&arguments).await;
                    wire::write_reply(&answer.reply(), &mut output);
                    if matches!(answer, Answer::Quit) {
                        return stream.write_all(&output).await;
                    }
                    if output.len() >= OUTPUT_BYTES {
                        stream.write_all(&output).await?;
                        output.clear();
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let text = format!("ERR Protocol error: {error}");
                    wire::write_reply(&wire::Reply::Error(text), &mut output);
                    return stream.write_all(&output).await;
                }
            }
        }
        input.drain(..taken);
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}
