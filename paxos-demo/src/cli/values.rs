//! Values on the command line, each with what is wrong with it.

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
