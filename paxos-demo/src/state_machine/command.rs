//! Commands and their bytes.
//!
//! `[op u8][flags u8][n u32]`, then for one key (`n` is its length) `[key]`, a number (i64) where the command
//! has one, and the value; for several strings (`n` is their count) each as `[length u32][bytes]`. All
//! little-endian. Nothing may follow, and unknown flags are refused.

use super::strings::length;
use super::{CommandError, Fields, Strings};
use bytes::BufMut;

const GET: u8 = 1;
const SET: u8 = 2;
const DEL: u8 = 3;
const DEL_MANY: u8 = 4;
const EXISTS: u8 = 5;
const MGET: u8 = 6;
const MSET: u8 = 7;
const INCR_BY: u8 = 8;
const APPEND: u8 = 9;
const STRLEN: u8 = 10;
const EXPIRE: u8 = 11;
const PERSIST: u8 = 12;
const TTL: u8 = 13;
const DB_SIZE: u8 = 14;
const MANY: u8 = 15;

// Flags of SET.
const CONDITION: u8 = 0b11;
const IF_ABSENT: u8 = 1;
const IF_PRESENT: u8 = 2;
const RETURN_OLD: u8 = 1 << 2;
const EXPIRY: u8 = 0b11 << 3;
const KEEP: u8 = 1 << 3;
const IN_MS: u8 = 2 << 3;
const AT_MS: u8 = 3 << 3;
// Flags of EXPIRE.
const ABSOLUTE: u8 = 1 << 3;

/// Commands of one `Many`: more than one datagram holds, and few enough that an op takes no long time.
pub const COMMANDS_MAX: usize = 256;
/// Bytes that a GET, a DEL or a plain SET takes besides key and value.
pub const COMMAND_HEADER_BYTES: usize = 6;

/// What can be asked of the store.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Read a key: `Value` or `Absent`.
    Get {
        /// The key.
        key: &'a [u8],
    },
    /// Write a key, whatever it held: `Done`.
    Set {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Write a key in a special way. `Done`, or `Absent` if the condition does not hold; if the old value is
    /// asked for, that or `Absent`.
    SetWith {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
        /// In which way.
        options: SetOptions,
    },
    /// Remove a key: `Done` if it was there, else `Absent`.
    Del {
        /// The key.
        key: &'a [u8],
    },
    /// Remove keys: `Integer`, how many were there.
    DelMany {
        /// The keys.
        keys: Strings<'a>,
    },
    /// `Integer`: how many of the keys are there; one that is named twice counts twice.
    Exists {
        /// The keys.
        keys: Strings<'a>,
    },
    /// Read keys at one moment: `Values`.
    MGet {
        /// The keys.
        keys: Strings<'a>,
    },
    /// Write keys at one moment: `Done`.
    MSet {
        /// Key, value, key, value ...
        pairs: Strings<'a>,
    },
    /// Add to the number that a key holds (none is 0): `Integer`, or a `Failure`.
    IncrBy {
        /// The key.
        key: &'a [u8],
        /// What to add.
        delta: i64,
    },
    /// Append to a value (none is empty): `Integer`, its length.
    Append {
        /// The key.
        key: &'a [u8],
        /// What to append.
        value: &'a [u8],
    },
    /// `Integer`: length of a value, 0 if there is none.
    Strlen {
        /// The key.
        key: &'a [u8],
    },
    /// Give a key a deadline: `Integer`, 1 if it was done.
    Expire {
        /// The key.
        key: &'a [u8],
        /// The deadline in milliseconds.
        ms: i64,
        /// Whether it is in unix time, not from now on.
        absolute: bool,
        /// When it is done.
        condition: Option<ExpiryCondition>,
    },
    /// Take a key's deadline away: `Integer`, 1 if it had one.
    Persist {
        /// The key.
        key: &'a [u8],
    },
    /// `Integer`: milliseconds until a key expires, -1 if it does not, -2 if it is not there.
    Ttl {
        /// The key.
        key: &'a [u8],
    },
    /// `Integer`: number of keys.
    DbSize,
    /// Several commands, one after the other and with nothing in between: `Results`.
    Many {
        /// At most [`COMMANDS_MAX`] encoded commands, none of which is a `Many`.
        commands: Strings<'a>,
    },
}

/// In which way SET sets.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// Whether it sets at all.
    pub condition: Option<SetCondition>,
    /// When the key expires.
    pub expiry: Expiry,
    /// Whether the old value is returned.
    pub return_old: bool,
}

/// NX and XX.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SetCondition {
    /// Only if the key is not there.
    Absent,
    /// Only if it is.
    Present,
}

/// When a key that is set expires.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    #[default]
    Never,
    /// When it did before.
    Keep,
    /// So many milliseconds after the time of the batch.
    In(i64),
    /// At this unix time in milliseconds.
    At(i64),
}

/// Options of EXPIRE.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ExpiryCondition {
    /// Only if the key has no deadline.
    None = 1,
    /// Only if it has one.
    Some = 2,
    /// Only if the new one is later; no deadline is latest.
    Later = 3,
    /// Only if the new one is earlier.
    Earlier = 4,
}

impl<'a> Command<'a> {
    /// Reads a command.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CommandError> {
        let mut fields = Fields(bytes);
        let [operation, flags] = fields.array()?;
        let n = fields.u32()?;
        if !matches!(operation, SET | EXPIRE) && flags != 0 {
            return Err(CommandError::Options { operation, flags });
        }
        match operation {
            DEL_MANY => return Ok(Self::DelMany { keys: Strings::parse(n, fields.rest())? }),
            EXISTS => return Ok(Self::Exists { keys: Strings::parse(n, fields.rest())? }),
            MGET => return Ok(Self::MGet { keys: Strings::parse(n, fields.rest())? }),
            MSET if !n.is_multiple_of(2) => return Err(CommandError::Unpaired),
            MSET => return Ok(Self::MSet { pairs: Strings::parse(n, fields.rest())? }),
            MANY if n as usize > COMMANDS_MAX => return Err(CommandError::TooMany(n)),
            MANY => return Self::parse_many(Strings::parse(n, fields.rest())?),
            GET | SET | DEL | INCR_BY | APPEND | STRLEN | EXPIRE | PERSIST | TTL | DB_SIZE => {}
            _ => return Err(CommandError::UnknownOperation(operation)),
        }
        let key = fields.bytes(n)?;
        let command = match operation {
            SET => {
                let options = SetOptions::parse(flags, &mut fields)?;
                let value = fields.rest();
                return Ok(if options == SetOptions::default() {
                    Self::Set { key, value }
                } else {
                    Self::SetWith { key, value, options }
                });
            }
            APPEND => return Ok(Self::Append { key, value: fields.rest() }),
            INCR_BY => Self::IncrBy { key, delta: fields.i64()? },
            EXPIRE => {
                let condition = ExpiryCondition::parse(flags & !ABSOLUTE)?;
                Self::Expire { key, ms: fields.i64()?, absolute: flags & ABSOLUTE != 0, condition }
            }
            GET => Self::Get { key },
            DEL => Self::Del { key },
            STRLEN => Self::Strlen { key },
            PERSIST => Self::Persist { key },
            TTL => Self::Ttl { key },
            _ if key.is_empty() => Self::DbSize,
            _ => return Err(CommandError::Trailing),
        };
        fields.end()?;
        Ok(command)
    }

    fn parse_many(commands: Strings<'a>) -> Result<Self, CommandError> {
        for command in commands.iter() {
            if command.first() == Some(&MANY) {
                return Err(CommandError::Nested);
            }
            Self::parse(command)?;
        }
        Ok(Self::Many { commands })
    }

    /// Whether the command changes nothing, so that no op is needed to execute it.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Get { .. }
            | Self::Exists { .. }
            | Self::MGet { .. }
            | Self::Strlen { .. }
            | Self::Ttl { .. }
            | Self::DbSize => true,
            Self::Many { commands } => {
                commands.iter().all(|command| Self::parse(command).is_ok_and(|command| command.is_read()))
            }
            Self::Set { .. }
            | Self::SetWith { .. }
            | Self::Del { .. }
            | Self::DelMany { .. }
            | Self::MSet { .. }
            | Self::IncrBy { .. }
            | Self::Append { .. }
            | Self::Expire { .. }
            | Self::Persist { .. } => false,
        }
    }

    /// Whether the result is a few bytes long, whatever is stored.
    pub fn has_short_result(&self) -> bool {
        match self {
            Self::Get { .. } | Self::MGet { .. } | Self::Many { .. } => false,
            Self::SetWith { options, .. } => !options.return_old,
            _ => true,
        }
    }

    /// Appends the command to `out`.
    pub fn encode(&self, out: &mut impl BufMut) -> Result<(), CommandError> {
        match *self {
            Self::Get { key } => one(out, GET, 0, key),
            Self::Del { key } => one(out, DEL, 0, key),
            Self::Strlen { key } => one(out, STRLEN, 0, key),
            Self::Persist { key } => one(out, PERSIST, 0, key),
            Self::Ttl { key } => one(out, TTL, 0, key),
            Self::DbSize => one(out, DB_SIZE, 0, &[]),
            Self::DelMany { keys } => several(out, DEL_MANY, keys),
            Self::Exists { keys } => several(out, EXISTS, keys),
            Self::MGet { keys } => several(out, MGET, keys),
            Self::MSet { pairs } if pairs.len() % 2 != 0 => Err(CommandError::Unpaired),
            Self::MSet { pairs } => several(out, MSET, pairs),
            Self::Many { commands } => several(out, MANY, commands),
            Self::Set { key, value } => {
                one(out, SET, 0, key)?;
                out.put_slice(value);
                Ok(())
            }
            Self::SetWith { key, value, options } => {
                let (flags, ms) = options.flags();
                one(out, SET, flags, key)?;
                if let Some(ms) = ms {
                    out.put_i64_le(ms);
                }
                out.put_slice(value);
                Ok(())
            }
            Self::Append { key, value } => {
                one(out, APPEND, 0, key)?;
                out.put_slice(value);
                Ok(())
            }
            Self::IncrBy { key, delta } => {
                one(out, INCR_BY, 0, key)?;
                out.put_i64_le(delta);
                Ok(())
            }
            Self::Expire { key, ms, absolute, condition } => {
                let flags = condition.map_or(0, |condition| condition as u8);
                one(out, EXPIRE, flags | if absolute { ABSOLUTE } else { 0 }, key)?;
                out.put_i64_le(ms);
                Ok(())
            }
        }
    }
}

fn one(out: &mut impl BufMut, operation: u8, flags: u8, key: &[u8]) -> Result<(), CommandError> {
    let key_bytes = length(key)?;
    out.put_u8(operation);
    out.put_u8(flags);
    out.put_u32_le(key_bytes);
    out.put_slice(key);
    Ok(())
}

fn several(out: &mut impl BufMut, operation: u8, strings: Strings<'_>) -> Result<(), CommandError> {
    let count = u32::try_from(strings.len()).map_err(|_| CommandError::TooLong(strings.len()))?;
    out.put_u8(operation);
    out.put_u8(0);
    out.put_u32_le(count);
    strings.encode(out)
}

impl SetOptions {
    fn parse(flags: u8, fields: &mut Fields<'_>) -> Result<Self, CommandError> {
        let unknown = CommandError::Options { operation: SET, flags };
        if flags & !(CONDITION | RETURN_OLD | EXPIRY) != 0 {
            return Err(unknown);
        }
        Ok(Self {
            condition: match flags & CONDITION {
                0 => None,
                IF_ABSENT => Some(SetCondition::Absent),
                IF_PRESENT => Some(SetCondition::Present),
                _ => return Err(unknown),
            },
            expiry: match flags & EXPIRY {
                KEEP => Expiry::Keep,
                IN_MS => Expiry::In(fields.i64()?),
                AT_MS => Expiry::At(fields.i64()?),
                _ => Expiry::Never,
            },
            return_old: flags & RETURN_OLD != 0,
        })
    }

    /// Flags, and the number that goes with them.
    fn flags(self) -> (u8, Option<i64>) {
        let condition = match self.condition {
            None => 0,
            Some(SetCondition::Absent) => IF_ABSENT,
            Some(SetCondition::Present) => IF_PRESENT,
        };
        let (expiry, ms) = match self.expiry {
            Expiry::Never => (0, None),
            Expiry::Keep => (KEEP, None),
            Expiry::In(ms) => (IN_MS, Some(ms)),
            Expiry::At(ms) => (AT_MS, Some(ms)),
        };
        (condition | expiry | if self.return_old { RETURN_OLD } else { 0 }, ms)
    }
}

impl ExpiryCondition {
    fn parse(flags: u8) -> Result<Option<Self>, CommandError> {
        Ok(Some(match flags {
            0 => return Ok(None),
            1 => Self::None,
            2 => Self::Some,
            3 => Self::Later,
            4 => Self::Earlier,
            _ => return Err(CommandError::Options { operation: EXPIRE, flags }),
        }))
    }
}
