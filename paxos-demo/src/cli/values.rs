//! Values on the command line, each with what is wrong with it.

use crate::config::{PAYLOAD_BYTES_MAX_DEFAULT, slot_bytes};

/// Fewest slots of a log.
const LOG_SLOTS_MIN: u32 = 16;

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("'{text}' is not a number"))
}

pub(super) fn replica_count(text: &str) -> Result<usize, String> {
    match number(text)? {
        count @ 1..=32 => Ok(count),
        count => Err(format!("{count} replicas: a group has 1 to 32")),
    }
}

pub(super) fn surviving_count(text: &str) -> Result<usize, String> {
    match replica_count(text)? {
        count @ 3.. => Ok(count),
        count => Err(format!("{count} replicas: fewer than 3 do not outlive one")),
    }
}

pub(super) fn client_count(text: &str) -> Result<usize, String> {
    match number(text)? {
        count @ 1..=4096 => Ok(count),
        count => Err(format!("{count} clients: use 1 to 4096")),
    }
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = number(text)?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("{text} seconds: use 0.1 to 3600"))
    }
}

pub(super) fn group_count(text: &str) -> Result<u16, String> {
    match number(text)? {
        count @ 1..=32 => Ok(count),
        count => Err(format!("{count} groups: use 1 to 32")),
    }
}

/// The most of which each holds a whole datagram.
const LOG_SLOTS_MAX: u32 = 65_536;

pub(super) fn log_slots(text: &str) -> Result<u32, String> {
    match number(text)? {
        slots @ LOG_SLOTS_MIN..=LOG_SLOTS_MAX if u32::is_power_of_two(slots) => Ok(slots),
        slots => Err(format!(
            "{slots} slots: use a power of two from {LOG_SLOTS_MIN} to {LOG_SLOTS_MAX}, which take {:.1} MiB",
            (u64::from(LOG_SLOTS_MAX) * slot_bytes(PAYLOAD_BYTES_MAX_DEFAULT)) as f64 / f64::from(1 << 20)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClusterConfig, PAYLOAD_BYTES_MIN, QUORUM_WINDOW_DEFAULT};
    use clap::CommandFactory;

    /// What the command line takes is what a group takes, at any size of a slot.
    #[test]
    fn the_limits_of_a_log_are_those_of_the_configuration() {
        let accepts = |slots: u32| {
            let mut config = ClusterConfig::new(1, vec![([10, 0, 0, 1], 7000).into()]);
            config.log_slots = slots;
            config.quorum_window = config.quorum_window.min(slots);
            let least = ClusterConfig { payload_bytes_max: PAYLOAD_BYTES_MIN, ..config.clone() };
            [config, least].map(|config| ClusterConfig::parse(&config.to_toml()).is_ok())
        };
        for slots in [8, 16, 1024, 16_384, 65_536, 131_072] {
            assert_eq!(accepts(slots), [log_slots(&slots.to_string()).is_ok(); 2], "{slots}");
        }
        let text = log_slots("1000").unwrap_err();
        assert!(text.contains("power of two") && text.contains("91.5 MiB"), "{text}");
    }

    #[test]
    fn the_help_says_the_limits_of_a_log_and_what_shrinks_with_it() {
        let mut cli = crate::cli::Cli::command();
        let bench = cli.find_subcommand_mut("bench").unwrap();
        let option = bench.get_arguments().find(|option| option.get_id() == "log_slots").unwrap();
        let help = option.get_help().unwrap().to_string();
        for number in [LOG_SLOTS_MIN, LOG_SLOTS_MAX, QUORUM_WINDOW_DEFAULT] {
            assert!(
                help.split(|c: char| !c.is_ascii_digit()).any(|word| word == number.to_string()),
                "{help}"
            );
        }
    }
}
