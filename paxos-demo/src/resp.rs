//! Redis clients (RESP2 and RESP3) of the group: any replica serves, each connection is a client session of
//! its own.
//!
//! It runs on a thread of its own and talks to the group over UDP like any client, so the replica's loop
//! knows nothing of it, and no client can stop it. Requests of one connection are executed in order, and
//! together as far as they are there.
//!
//! | file | |
//! |---|---|
//! | [`wire`], `inline` | bytes to arguments, replies to bytes; bounded |
//! | [`connection`] | one client's bytes, requests and limits |
//! | [`local`] | what is answered without the group |
//! | [`command`], `options` | what a request means to the group, errors as Redis words them |
//! | [`pipeline`] | what was sent ahead, in few datagrams |
//! | [`remote`] | the session of one connection with the group |

pub mod command;
pub mod connection;
mod inline;
pub mod local;
mod options;
pub mod pipeline;
pub mod remote;
pub mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::connection::Connection;
use self::local::{Client, Shared};
use self::pipeline::Pipeline;
use self::remote::{Remote, Room};
use crate::session::Group;

/// Connections at a time. Each holds two descriptors and some 50 KiB at most, without long requests.
pub const CONNECTIONS_MAX: usize = 256;
/// What all connections together may hold of long requests that have not arrived as a whole.
pub const INPUT_BYTES_MAX: usize = 32 << 20;
/// Pause after a failed accept: without descriptors it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After so much silence a client is asked (by TCP) whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(300);

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
    let server = Context {
        group: Arc::new(group),
        budget: connection::budget(INPUT_BYTES_MAX),
        room: Room::default(),
        shared: Arc::new(Shared {
            clients: AtomicUsize::new(0),
            started: Instant::now(),
            replica: target,
            port: listener.local_addr()?.port(),
        }),
    };
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
                tokio::spawn(serve(stream, server.clone(), number, slot));
            }
            Err(_) => {
                // A few bytes into an empty buffer: this does not block.
                let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            }
        }
    }
}

/// What a connection needs of its server.
#[derive(Clone)]
struct Context {
    group: Arc<Group>,
    budget: Arc<Semaphore>,
    room: Room,
    shared: Arc<Shared>,
}

async fn serve(mut stream: TcpStream, server: Context, number: u64, _slot: OwnedSemaphorePermit) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(connection::UNSENT_BYTES);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
    let Context { group, budget, room, shared } = server;
    let remote = match Remote::open(group, shared.replica, room).await {
        Ok(remote) => remote,
        Err(error) => {
            let text = format!("-ERR cannot reach the group: {error}\r\n");
            let _ = stream.write_all(text.as_bytes()).await;
            return;
        }
    };
    shared.clients.fetch_add(1, Ordering::Relaxed);
    let client = Client::new(Arc::clone(&shared), number);
    // A client that goes away, whenever it does, is no error.
    let _ = Connection::new(stream, client, Pipeline::new(remote), budget).serve().await;
    shared.clients.fetch_sub(1, Ordering::Relaxed);
}
