//! RESP2 on the wire: requests to arguments, replies to bytes.
//!
//! Anybody can connect, so a request is looked over before it is decoded: an array of bulk strings (or an
//! inline line, which people type into netcat), of bounded size, never nested. What is wrong is said in
//! Redis's own words, and the connection ends. A request that arrives byte by byte is looked over once
//! ([`Progress`]).

use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::encode::encode_borrowed;
use redis_protocol::resp2::types::{BorrowedFrame, RangeFrame};

use super::inline;
use crate::state_machine::VALUE_BYTES_MAX;

/// Longest argument. What the group takes may be less: that is refused by [`super::pipeline`] with an error
/// of its own, and the connection goes on.
pub const ARGUMENT_BYTES_MAX: usize = VALUE_BYTES_MAX;
/// Longest request.
pub const REQUEST_BYTES_MAX: usize = ARGUMENT_BYTES_MAX + 64 * 1024;
/// Longest line: a request that somebody types, or a length.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Most arguments of one request. Their list takes 1 MiB then, not three times the bytes that they came in.
pub const ARGUMENTS_MAX: usize = 65_536;

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The number of arguments.
    #[error("invalid multibulk length")]
    MultibulkLength,
    /// The length of one.
    #[error("invalid bulk length")]
    BulkLength,
    /// Something else where an argument should begin.
    #[error("expected '$', got '{0}'")]
    Expected(char),
    /// A line that does not end.
    #[error("too big {0}")]
    TooBigLine(&'static str),
    /// A quote that is not closed, or not the end of its word.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
    /// Arguments that are too long together.
    #[error("too big request: this server takes {REQUEST_BYTES_MAX} bytes")]
    TooBig,
    /// What the decoder says.
    #[error("{0}")]
    Malformed(String),
}

/// A request's arguments and its length in bytes; `None` if it is not there as a whole yet.
pub type Found<'a> = Result<Option<(Vec<&'a [u8]>, usize)>, ProtocolError>;

/// How far a request that is not there as a whole was looked over: what is known is not looked at again.
#[derive(Debug, Default)]
pub struct Progress {
    /// Where the next argument begins; 0 as long as their number is not known.
    at: usize,
    /// Arguments from there on.
    left: usize,
}

/// The first request in `input`. `progress` is that of the last call if there was none and `input` has grown since;
/// `text` is empty, and holds the arguments if they are not in `input` as they are meant.
pub fn next_request<'a>(input: &'a [u8], progress: &mut Progress, text: &'a mut Vec<u8>) -> Found<'a> {
    let found = match input.first() {
        None => Ok(None),
        Some(b'*') => array(input, progress),
        Some(_) => inline(input, text),
    };
    if !matches!(found, Ok(None)) {
        *progress = Progress::default();
    }
    found
}

fn inline<'a>(input: &[u8], text: &'a mut Vec<u8>) -> Found<'a> {
    let Some((line, next)) = line(input, 0, "inline request")? else { return Ok(None) };
    let words = inline::words(line, text)?;
    Ok(Some((words.into_iter().map(|word| &text[word]).collect(), next)))
}

fn array<'a>(input: &'a [u8], progress: &mut Progress) -> Found<'a> {
    if progress.at == 0 {
        let count = number(input, 1, "mbulk count string", ProtocolError::MultibulkLength)?;
        let Some((count, at)) = count else { return Ok(None) };
        *progress = match usize::try_from(count) {
            Ok(left) if left <= ARGUMENTS_MAX => Progress { at, left },
            Ok(_) => return Err(ProtocolError::MultibulkLength),
            // Redis takes less than nothing for nothing.
            Err(_) => Progress { at, left: 0 },
        };
        if progress.left == 0 {
            return Ok(Some((Vec::new(), at)));
        }
    }
    while progress.left > 0 {
        let at = progress.at;
        match input.get(at) {
            None => return Ok(None),
            Some(b'$') => {}
            // An error ends with its line: what would end it earlier is told as a space, as by Redis.
            Some(&other) => {
                let said = Some(char::from(other)).filter(|said| !said.is_control());
                return Err(ProtocolError::Expected(said.unwrap_or(' ')));
            }
        }
        let length = number(input, at + 1, "bulk count string", ProtocolError::BulkLength)?;
        let Some((length, next)) = length else { return Ok(None) };
        let length = usize::try_from(length).map_err(|_| ProtocolError::BulkLength)?;
        if length > ARGUMENT_BYTES_MAX {
            return Err(ProtocolError::BulkLength);
        }
        let end = next + length + 2;
        if end > REQUEST_BYTES_MAX {
            return Err(ProtocolError::TooBig);
        }
        // The decoder does not look, and whatever is there would be lost.
        match input.get(end - 2..end) {
            None => return Ok(None),
            Some(b"\r\n") => *progress = Progress { at: end, left: progress.left - 1 },
            Some(_) => return Err(malformed("an argument is longer than announced")),
        }
    }
    let at = progress.at;
    let decoded = decode_range(&input[..at]).map_err(|error| malformed(error.details()))?;
    let Some((RangeFrame::Array(frames), length)) = decoded else { return Err(malformed("not an array")) };
    if length != at {
        return Err(malformed("bytes follow an argument"));
    }
    let arguments = frames
        .iter()
        .map(|frame| match frame {
            RangeFrame::BulkString((start, end)) => Ok(&input[*start..*end]),
            _ => Err(malformed("not an array of bulk strings")),
        })
        .collect::<Result<_, _>>()?;
    Ok(Some((arguments, at)))
}

fn malformed(text: &str) -> ProtocolError {
    ProtocolError::Malformed(text.to_owned())
}

/// The line that begins at `from`, without its end, and where the next begins.
fn line<'a>(
    input: &'a [u8],
    from: usize,
    what: &'static str,
) -> Result<Option<(&'a [u8], usize)>, ProtocolError> {
    let rest = input.get(from..).unwrap_or_default();
    match rest.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = &rest[..end];
            Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), from + end + 1)))
        }
        None if rest.len() >= LINE_BYTES_MAX => Err(ProtocolError::TooBigLine(what)),
        None => Ok(None),
    }
}

fn number(
    input: &[u8],
    from: usize,
    what: &'static str,
    error: ProtocolError,
) -> Result<Option<(i64, usize)>, ProtocolError> {
    let Some((digits, next)) = line(input, from, what)? else { return Ok(None) };
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(error)?;
    Ok(Some((number, next)))
}

/// Which RESP a client speaks.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What everybody speaks.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK` and its like.
    Simple(&'static str),
    /// An error; the first word tells its kind.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// No such key.
    Null,
    /// Several.
    Array(Vec<Reply>),
    /// Names and what belongs to them; an array in RESP2.
    Map(Vec<(&'static str, Reply)>),
}

/// Appends a reply to `output`.
pub fn write_reply(reply: &Reply, protocol: Protocol, output: &mut Vec<u8>) {
    match reply {
        Reply::Null if protocol == Protocol::Resp3 => output.extend_from_slice(b"_\r\n"),
        Reply::Array(items) => {
            write_length(b'*', items.len(), output);
            items.iter().for_each(|item| write_reply(item, protocol, output));
        }
        Reply::Map(pairs) => {
            match protocol {
                Protocol::Resp2 => write_length(b'*', 2 * pairs.len(), output),
                Protocol::Resp3 => write_length(b'%', pairs.len(), output),
            }
            for (name, value) in pairs {
                append(&BorrowedFrame::BulkString(name.as_bytes()), output);
                write_reply(value, protocol, output);
            }
        }
        Reply::Simple(text) => append(&BorrowedFrame::SimpleString(text.as_bytes()), output),
        Reply::Error(text) => append(&BorrowedFrame::Error(text), output),
        Reply::Integer(number) => append(&BorrowedFrame::Integer(*number), output),
        Reply::Bulk(bytes) => append(&BorrowedFrame::BulkString(bytes), output),
        Reply::Null => append(&BorrowedFrame::Null, output),
    }
}

/// Frames of the codec borrow, so the items of an array would have to live somewhere: they are written one by
/// one behind its length.
fn write_length(tag: u8, length: usize, output: &mut Vec<u8>) {
    output.push(tag);
    output.extend_from_slice(length.to_string().as_bytes());
    output.extend_from_slice(b"\r\n");
}

fn append(frame: &BorrowedFrame<'_>, output: &mut Vec<u8>) {
    let start = output.len();
    output.resize(start + frame.encode_len(false), 0);
    let written = encode_borrowed(&mut output[start..], frame, false).expect("room was made");
    output.truncate(start + written);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(arguments: &[&[u8]]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    type Owned = Result<Option<(Vec<Vec<u8>>, usize)>, ProtocolError>;

    fn next_from(input: &[u8], progress: &mut Progress) -> Owned {
        let mut text = Vec::new();
        let found = next_request(input, progress, &mut text)?;
        Ok(found.map(|(arguments, length)| (arguments.iter().map(|a| a.to_vec()).collect(), length)))
    }

    fn next(input: &[u8]) -> Owned {
        next_from(input, &mut Progress::default())
    }

    #[test]
    fn arrays_and_inline_lines_are_requests() {
        let found = |words: &[&[u8]], length| Ok(Some((words.iter().map(|w| w.to_vec()).collect(), length)));
        let bytes = request(&[b"SET", b"k", b"a\r\nb"]);
        assert_eq!(next(&bytes), found(&[b"SET", b"k", b"a\r\nb"], bytes.len()));
        assert_eq!(next(b"  get  k \r\nrest"), found(&[b"get", b"k"], 11));
        assert_eq!(next(b"get \"a k\"\nrest"), found(&[b"get", b"a k"], 10));
        assert_eq!(next(b"\r\n"), found(&[], 2));
        assert_eq!(next(b"*0\r\n"), found(&[], 4));
        assert_eq!(next(b"*-1\r\n"), found(&[], 5));
        assert_eq!(next(b"*-7\r\nPING\r\n"), found(&[], 5));
        let many = request(&vec![&b"k"[..]; ARGUMENTS_MAX]);
        assert_eq!(next(&many).unwrap().unwrap().0.len(), ARGUMENTS_MAX);
    }

    #[test]
    fn what_arrives_in_pieces_is_looked_over_once() {
        let request = request(&vec![&b""[..]; ARGUMENTS_MAX]);
        let mut progress = Progress::default();
        for end in request.len() - 10_000..request.len() {
            assert_eq!(next_from(&request[..end], &mut progress), Ok(None));
            assert!(progress.at + 2 * "$0\r\n\r\n".len() > end, "the next call goes on at {}", progress.at);
        }
        assert_eq!(next_from(&request, &mut progress).unwrap().unwrap().1, request.len());
    }

    #[test]
    fn what_is_wrong_is_said_in_redis_words() {
        let said = |bytes: &[u8]| next(bytes).unwrap_err().to_string();
        assert_eq!(said(b"*x\r\n"), "invalid multibulk length");
        assert_eq!(said(b"*99999999\r\n"), "invalid multibulk length");
        assert_eq!(said(b"*65537\r\n"), "invalid multibulk length");
        assert_eq!(said(b"get \"k\r\n"), "unbalanced quotes in request");
        assert_eq!(said(b"*1\r\n:5\r\n"), "expected '$', got ':'");
        assert_eq!(said(b"*1\r\n*1\r\n"), "expected '$', got '*'");
        assert_eq!(said(b"*1\r\n\n"), "expected '$', got ' '", "no line of its own");
        assert_eq!(said(b"*1\r\n$-1\r\n"), "invalid bulk length");
        assert_eq!(said(b"*1\r\n$abc\r\n"), "invalid bulk length");
        assert_eq!(said(b"*1\r\n$1000000000\r\n"), "invalid bulk length");
        let endless = vec![b'1'; LINE_BYTES_MAX];
        assert_eq!(said(&endless), "too big inline request");
        assert_eq!(said(&[b"*", &endless[..]].concat()), "too big mbulk count string");
        assert_eq!(said(&[b"*1\r\n$", &endless[..]].concat()), "too big bulk count string");
        assert!(!said(b"*1\r\n$2\r\nabXX").is_empty());
        assert_eq!(next(&request(&[&vec![0; ARGUMENT_BYTES_MAX]])).unwrap().unwrap().0.len(), 1);
        assert!(said(&request(&[&vec![0; 600_000], &vec![0; 600_000]])).starts_with("too big request"));
    }

    #[test]
    fn replies_are_written_as_redis_writes_them() {
        let written = |reply: Reply| {
            let mut output = b"before".to_vec();
            write_reply(&reply, Protocol::Resp2, &mut output);
            String::from_utf8(output).unwrap()
        };
        assert_eq!(written(Reply::Simple("OK")), "before+OK\r\n");
        assert_eq!(written(Reply::Error("ERR no".into())), "before-ERR no\r\n");
        assert_eq!(written(Reply::Integer(-3)), "before:-3\r\n");
        assert_eq!(written(Reply::Bulk(b"ab".to_vec())), "before$2\r\nab\r\n");
        assert_eq!(written(Reply::Bulk(vec![])), "before$0\r\n\r\n");
        assert_eq!(written(Reply::Null), "before$-1\r\n");
        assert_eq!(written(Reply::Array(vec![])), "before*0\r\n");
        assert_eq!(written(Reply::Array(vec![Reply::Integer(1), Reply::Null])), "before*2\r\n:1\r\n$-1\r\n");

        let nested = Reply::Map(vec![("a", Reply::Null), ("b", Reply::Array(vec![Reply::Integer(1)]))]);
        assert_eq!(written(nested.clone()), "before*4\r\n$1\r\na\r\n$-1\r\n$1\r\nb\r\n*1\r\n:1\r\n");
        let mut output = Vec::new();
        write_reply(&nested, Protocol::Resp3, &mut output);
        assert_eq!(output, b"%2\r\n$1\r\na\r\n_\r\n$1\r\nb\r\n*1\r\n:1\r\n");
    }

    proptest! {
        #[test]
        fn requests_are_found_however_they_are_cut(
            requests in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let all: Vec<u8> = requests
                .iter()
                .flat_map(|arguments| request(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>()))
                .collect();
            let cut = cut.index(all.len() + 1);
            // First with the bytes before the cut, then with all of them.
            let (mut found, mut at, mut progress) = (Vec::new(), 0, Progress::default());
            for end in [cut, all.len()] {
                while let Some((arguments, length)) = next_from(&all[at..end], &mut progress).unwrap() {
                    found.push(arguments);
                    at += length;
                }
            }
            prop_assert_eq!(found, requests);
            prop_assert_eq!(at, all.len());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), star: bool) {
            let mut bytes = bytes;
            if star {
                bytes.splice(0..0, *b"*2\r\n$");
            }
            let _ = next(&bytes);
        }

        #[test]
        fn hostile_text_never_panics(text in "[*$:0-9\r\n-]{0,60}") {
            let _ = next(text.as_bytes());
        }
    }
}
