//! The text form of a configuration: parsing with line numbers, validation, writing.

use std::net::SocketAddr;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::{
    Batching, ClusterConfig, ConfigError, Durability, LOG_BYTES_MAX, LOG_SLOTS_DEFAULT, OffloadChoice,
    PAYLOAD_BYTES_MAX_DEFAULT, PAYLOAD_BYTES_MAX_IPV6, PAYLOAD_BYTES_MIN, QUORUM_WINDOW_DEFAULT, Timeouts,
};
use electrode::abi;

/// The file as it is written; spans point back to the lines.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    group: Spanned<u32>,
    durability: Option<Spanned<Durability>>,
    batching: Option<Batching>,
    log_slots: Option<Spanned<u32>>,
    payload_bytes_max: Option<Spanned<u32>>,
    quorum_window: Option<Spanned<u32>>,
    key_file: Option<Spanned<String>>,
    #[serde(default)]
    offloads: OffloadChoice,
    timeouts: Option<Spanned<Timeouts>>,
    replicas: Spanned<Vec<RawReplica>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReplica {
    index: Spanned<u32>,
    address: Spanned<String>,
}

pub(super) fn parse(text: &str) -> Result<ClusterConfig, ConfigError> {
    let raw: Raw = toml::from_str(text).map_err(|error| {
        let reason = error.message().replace('\n', "; ");
        ConfigError::at(text, error.span().unwrap_or(0..0), reason)
    })?;
    validate(text, raw)
}

fn validate(text: &str, raw: Raw) -> Result<ClusterConfig, ConfigError> {
    let refuse = |span: Range<usize>, reason: String| Err(ConfigError::at(text, span, reason));

    if let Some(durability) = &raw.durability {
        let mode = *durability.get_ref();
        if mode == Durability::Process {
            return refuse(
                durability.span(),
                format!(
                    "durability = \"{mode}\" is not available in this version; use \"memory\" or \"disk\""
                ),
            );
        }
    }
    if let Some(key_file) = raw.key_file.as_ref().filter(|key_file| key_file.get_ref().is_empty()) {
        return refuse(
            key_file.span(),
            "key_file is empty: name the file that `paxos-demo key new` made, or remove the line".to_owned(),
        );
    }

    let replicas = replicas(text, &raw.replicas)?;
    let ipv6 = replicas[0].is_ipv6();

    let log_slots = power_of_two(text, "log_slots", raw.log_slots.as_ref(), LOG_SLOTS_DEFAULT, 1 << 20)?;
    let quorum_window = power_of_two(
        text,
        "quorum_window",
        raw.quorum_window.as_ref(),
        QUORUM_WINDOW_DEFAULT.min(log_slots),
        1 << (abi::VOTE_OP_BITS - 1),
    )?;
    if quorum_window > log_slots {
        let span = raw.quorum_window.as_ref().map_or(0..0, Spanned::span);
        return refuse(
            span,
            format!(
                "quorum_window = {quorum_window} exceeds log_slots = {log_slots}: an op in flight needs a slot"
            ),
        );
    }

    let room = if ipv6 { PAYLOAD_BYTES_MAX_IPV6 } else { PAYLOAD_BYTES_MAX_DEFAULT };
    let payload_bytes_max = raw.payload_bytes_max.as_ref().map_or(room, |value| *value.get_ref());
    if !(PAYLOAD_BYTES_MIN..=room).contains(&payload_bytes_max) {
        let span = raw.payload_bytes_max.as_ref().map_or(0..0, Spanned::span);
        return refuse(
            span,
            format!(
                "payload_bytes_max = {payload_bytes_max}: must be {PAYLOAD_BYTES_MIN} to {room}, from what the longest \
                 result of a write needs to what one packet of an MTU of 1500 holds over IPv{}",
                if ipv6 { 6 } else { 4 }
            ),
        );
    }
    let slot_bytes = super::slot_bytes(payload_bytes_max);
    if u64::from(log_slots) * slot_bytes > LOG_BYTES_MAX {
        let span = raw
            .log_slots
            .as_ref()
            .map(Spanned::span)
            .or(raw.payload_bytes_max.as_ref().map(Spanned::span))
            .unwrap_or(0..0);
        return refuse(
            span,
            format!(
                "log_slots = {log_slots} of payload_bytes_max = {payload_bytes_max} take {} MiB; a replica's log may \
                 take {} MiB of locked memory",
                (u64::from(log_slots) * slot_bytes) >> 20,
                LOG_BYTES_MAX >> 20
            ),
        );
    }

    let timeouts = match &raw.timeouts {
        None => Timeouts::default(),
        Some(timeouts) => {
            check_timeouts(timeouts.get_ref())
                .map_err(|reason| ConfigError::at(text, timeouts.span(), reason))?;
            *timeouts.get_ref()
        }
    };

    Ok(ClusterConfig {
        group: *raw.group.get_ref(),
        replicas,
        durability: raw.durability.map(Spanned::into_inner).unwrap_or_default(),
        offloads: raw.offloads,
        batching: raw.batching.unwrap_or_default(),
        timeouts,
        log_slots,
        payload_bytes_max,
        quorum_window,
        key_file: raw.key_file.map(|key_file| key_file.into_inner().into()),
    })
}

fn replicas(text: &str, raw: &Spanned<Vec<RawReplica>>) -> Result<Vec<SocketAddr>, ConfigError> {
    let list = raw.get_ref();
    let count = list.len();
    if !(1..=abi::MEMBERS_MAX).contains(&count) {
        return Err(ConfigError::at(
            text,
            raw.span(),
            format!("{count} replicas: a group has 1 to {} of them", abi::MEMBERS_MAX),
        ));
    }
    let mut by_index: Vec<Option<SocketAddr>> = vec![None; count];
    let mut ipv6 = None;
    for replica in list {
        let index = *replica.index.get_ref() as usize;
        let span = replica.index.span();
        if index >= count {
            return Err(ConfigError::at(
                text,
                span,
                format!("replica index {index}: {count} replicas have the indices 0 to {}", count - 1),
            ));
        }
        if by_index[index].is_some() {
            return Err(ConfigError::at(text, span, format!("replica index {index} is there twice")));
        }
        let address = address(&replica.address).map_err(|reason| {
            ConfigError::at(text, replica.address.span(), format!("replica {index}: {reason}"))
        })?;
        let span = replica.address.span();
        if by_index.contains(&Some(address)) {
            return Err(ConfigError::at(text, span, format!("address {address} is there twice")));
        }
        if *ipv6.get_or_insert(address.is_ipv6()) != address.is_ipv6() {
            return Err(ConfigError::at(
                text,
                span,
                format!("address {address}: replicas must be all IPv4 addresses or all IPv6 addresses"),
            ));
        }
        by_index[index] = Some(address);
    }
    // `count` distinct indices below `count`: none is missing.
    Ok(by_index.into_iter().flatten().collect())
}

fn address(text: &Spanned<String>) -> Result<SocketAddr, String> {
    let written = text.get_ref();
    let address: SocketAddr = written.parse().map_err(|_| {
        format!(
            "'{written}' is not an address and port; write \"10.0.0.1:7100\" or \"[fd00::1]:7100\" (no host names)"
        )
    })?;
    electrode::config::reachable(&address).map(|()| address)
}

fn power_of_two(
    text: &str,
    name: &str,
    value: Option<&Spanned<u32>>,
    default: u32,
    max: u32,
) -> Result<u32, ConfigError> {
    let Some(value) = value else { return Ok(default) };
    let number = *value.get_ref();
    if !number.is_power_of_two() || !(16..=max).contains(&number) {
        return Err(ConfigError::at(
            text,
            value.span(),
            format!("{name} = {number}: must be a power of two, 16 to {max}"),
        ));
    }
    Ok(number)
}

fn check_timeouts(timeouts: &Timeouts) -> Result<(), String> {
    let all = [
        ("resend_timeout_ms", timeouts.resend_timeout_ms),
        ("commit_notice_delay_ms", timeouts.commit_notice_delay_ms),
        ("heartbeat_interval_ms", timeouts.heartbeat_interval_ms),
        ("leader_timeout_ms", timeouts.leader_timeout_ms),
        ("client_retry_ms", timeouts.client_retry_ms),
        ("request_timeout_ms", timeouts.request_timeout_ms),
    ];
    for (name, value) in all {
        if !(1..=600_000).contains(&value) {
            return Err(format!("{name} = {value}: must be 1 to 600000 milliseconds"));
        }
    }
    if timeouts.busy_poll_us > 10_000 {
        return Err(format!("busy_poll_us = {}: must be 0 to 10000 microseconds", timeouts.busy_poll_us));
    }
    if timeouts.leader_timeout_ms < 2 * timeouts.heartbeat_interval_ms {
        return Err(format!(
            "leader_timeout_ms = {} is less than twice heartbeat_interval_ms = {}: one lost packet would end a view",
            timeouts.leader_timeout_ms, timeouts.heartbeat_interval_ms
        ));
    }
    if timeouts.leader_timeout_ms <= timeouts.resend_timeout_ms {
        return Err(format!(
            "leader_timeout_ms = {} is not more than resend_timeout_ms = {}: a lost packet would end a view before it \
             is sent again",
            timeouts.leader_timeout_ms, timeouts.resend_timeout_ms
        ));
    }
    if timeouts.client_retry_ms > timeouts.request_timeout_ms {
        return Err(format!(
            "client_retry_ms = {} exceeds request_timeout_ms = {}: no request would ever be sent again",
            timeouts.client_retry_ms, timeouts.request_timeout_ms
        ));
    }
    Ok(())
}

pub(super) fn write(config: &ClusterConfig) -> String {
    use std::fmt::Write as _;
    let OffloadChoice { broadcast, fast_ack, quorum } = config.offloads;
    let Timeouts {
        resend_timeout_ms,
        commit_notice_delay_ms,
        heartbeat_interval_ms,
        leader_timeout_ms,
        client_retry_ms,
        request_timeout_ms,
        busy_poll_us,
    } = config.timeouts;
    let batching = match config.batching {
        Batching::One => "one",
        Batching::Auto => "auto",
    };
    let key_file = config.key_file.as_ref().map_or_else(String::new, |path| {
        format!("key_file = {}\n", toml::Value::from(path.to_string_lossy().as_ref()))
    });
    let mut text = format!(
        "# One consensus group. Members refuse packets from a member whose group, durability, log_slots,\n\
         # payload_bytes_max or replicas differ, or of which only one has a key_file.\n\
         group = {}\n\
         durability = \"{}\"\n\
         batching = \"{batching}\" # \"one\" request a Prepare, or \"auto\"\n\
         log_slots = {} # power of two\n\
         payload_bytes_max = {}\n\
         quorum_window = {} # power of two\n\
         {key_file}\
         \n\
         [offloads]\n\
         broadcast = {broadcast}\n\
         fast_ack = {fast_ack}\n\
         quorum = {quorum}\n\
         \n\
         [timeouts]\n\
         resend_timeout_ms = {resend_timeout_ms}\n\
         commit_notice_delay_ms = {commit_notice_delay_ms}\n\
         heartbeat_interval_ms = {heartbeat_interval_ms}\n\
         leader_timeout_ms = {leader_timeout_ms}\n\
         client_retry_ms = {client_retry_ms}\n\
         request_timeout_ms = {request_timeout_ms}\n\
         busy_poll_us = {busy_poll_us}\n",
        config.group, config.durability, config.log_slots, config.payload_bytes_max, config.quorum_window,
    );
    for (index, address) in config.replicas.iter().enumerate() {
        // Writing to a String does not fail.
        let _ = write!(text, "\n[[replicas]]\nindex = {index}\naddress = \"{address}\"\n");
    }
    text
}
