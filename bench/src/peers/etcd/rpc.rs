//! The four calls of etcd's v3 API that the comparison needs, as its `rpc.proto` and `kv.proto` number them.
//!
//! Written down here, for the crates that know all of it want a `protoc` at build time. Fields that nobody reads are
//! left out: protobuf skips them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::uri::PathAndQuery;
use paxos_demo::state_machine::{Command, Outcome};
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
/// A call that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Sessions that share a connection. One connection for all of them, or one for each, was no faster.
const SESSIONS_A_CONNECTION: usize = 16;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// No connection.
    #[error("{0}")]
    Transport(#[from] tonic::transport::Error),
    /// The server refused.
    #[error("{0}")]
    Refused(#[from] Box<tonic::Status>),
    /// It does not know who leads, or others know otherwise.
    #[error("no leader that all agree on")]
    NoLeader,
    /// Not a command that is used here.
    #[error("the load generator makes no such command")]
    Command,
    /// No runtime.
    #[error("{0}")]
    Runtime(#[from] std::io::Error),
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {}

/// Of one key, in Range and DeleteRange.
#[derive(Clone, PartialEq, Message)]
struct KeyRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteRangeResponse {
    #[prost(int64, tag = "2")]
    deleted: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// A runtime for one thread: the load generator of our own replica has one as well.
pub fn runtime() -> Result<tokio::runtime::Runtime, RpcError> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Which of these addresses is the leader's, if all members agree.
pub fn leader(addresses: &[String]) -> Result<String, RpcError> {
    runtime()?.block_on(async {
        let mut found: Option<(u64, Option<String>)> = None;
        for address in addresses {
            let mut grpc = Grpc::new(endpoint(address)?.connect().await?);
            let status: StatusResponse = call(&mut grpc, STATUS, StatusRequest {}).await?;
            let (leader, known) = found.get_or_insert((status.leader, None));
            if status.leader == 0 || status.leader != *leader {
                return Err(RpcError::NoLeader);
            }
            if status.header.is_some_and(|header| header.member_id == *leader) {
                *known = Some(address.clone());
            }
        }
        found.and_then(|(_, address)| address).ok_or(RpcError::NoLeader)
    })
}

/// Connections to one server, shared by sessions.
pub struct Connections {
    channels: Vec<Channel>,
    next: AtomicUsize,
}

impl Connections {
    /// As many as so many sessions need.
    pub async fn open(address: &str, sessions: usize) -> Result<Self, RpcError> {
        let mut channels = Vec::new();
        for _ in 0..sessions.div_ceil(SESSIONS_A_CONNECTION) {
            channels.push(endpoint(address)?.connect().await?);
        }
        Ok(Self { channels, next: AtomicUsize::new(0) })
    }

    /// A client for the next session.
    pub fn client(&self) -> Client {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len();
        Client { grpc: Grpc::new(self.channels[index].clone()) }
    }
}

fn endpoint(address: &str) -> Result<Endpoint, RpcError> {
    Ok(Endpoint::from_shared(address.to_owned())?.tcp_nodelay(true).timeout(TIMEOUT).connect_timeout(TIMEOUT))
}

/// One session.
pub struct Client {
    grpc: Grpc<Channel>,
}

impl Client {
    /// Has one of our commands executed, and writes the answer as our store would.
    pub async fn execute(&mut self, command: &[u8], result: &mut Vec<u8>) -> Result<(), RpcError> {
        result.clear();
        match Command::parse(command) {
            Ok(Command::Set { key, value }) => {
                let request = PutRequest { key: key.to_vec(), value: value.to_vec() };
                let _: PutResponse = call(&mut self.grpc, PUT, request).await?;
                Outcome::Done.encode(result);
            }
            Ok(Command::Get { key }) => {
                let request = KeyRequest { key: key.to_vec() };
                let found: RangeResponse = call(&mut self.grpc, RANGE, request).await?;
                match &found.kvs[..] {
                    [] => Outcome::Absent.encode(result),
                    [pair, ..] => Outcome::Value(&pair.value).encode(result),
                }
            }
            Ok(Command::Del { key }) => {
                let request = KeyRequest { key: key.to_vec() };
                let gone: DeleteRangeResponse = call(&mut self.grpc, DELETE_RANGE, request).await?;
                (if gone.deleted > 0 { Outcome::Done } else { Outcome::Absent }).encode(result);
            }
            _ => return Err(RpcError::Command),
        }
        Ok(())
    }
}

async fn call<Q, A>(grpc: &mut Grpc<Channel>, path: &'static str, request: Q) -> Result<A, RpcError>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    grpc.ready().await?;
    let codec = ProstCodec::<Q, A>::default();
    let answer = grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await;
    Ok(answer.map_err(Box::new)?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as a protobuf compiler would write them for `PutRequest { key: "k", value: "v" }`, and an answer with fields
    /// that are not read here.
    #[test]
    fn fields_have_the_numbers_of_the_protocol() {
        let put = PutRequest { key: b"k".to_vec(), value: b"v".to_vec() };
        assert_eq!(put.encode_to_vec(), [0x0a, 1, b'k', 0x12, 1, b'v']);
        // header (1) {}, kvs (2) { key (1), mod_revision (3), value (5) }, count (4).
        let range = [0x0a, 0, 0x12, 8, 0x0a, 1, b'k', 0x18, 9, 0x2a, 1, b'v', 0x20, 1];
        let range = RangeResponse::decode(&range[..]).unwrap();
        assert_eq!(range.kvs, [KeyValue { key: b"k".to_vec(), value: b"v".to_vec() }]);
        // header (1) { member_id (2) }, version (2), leader (4).
        let status = [0x0a, 2, 0x10, 7, 0x12, 1, b'3', 0x20, 7];
        let status = StatusResponse::decode(&status[..]).unwrap();
        assert_eq!((status.header.unwrap().member_id, status.leader), (7, 7));
    }
}
