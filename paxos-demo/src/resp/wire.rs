//! RESP2 on the wire: requests to arguments, replies to bytes.
//!
//! Anybody can connect, so a request is looked over before it is decoded: an array of bulk strings (or an
//! inline line, which people type into netcat), of bounded size, never nested. What is wrong is said in
//! Redis's own words, and the connection ends.

use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::encode::encode_borrowed;
use redis_protocol::resp2::types::{BorrowedFrame, RangeFrame};

/// Longest request. Values must fit one datagram of the group, which is far less: those are refused by
/// [`super::command`] with an error of their own, and the connection goes on.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Most arguments of one request.
pub const ARGUMENTS_MAX: usize = 1024;

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
    #[error("too big request: this server takes {REQUEST_BYTES_MAX} bytes")]
    TooBig,
    /// What the decoder says.
    #[error("{0}")]
    Malformed(String),
}

/// A request's arguments and its length in bytes; `None` if it is not there as a whole yet.
pub type Found<'a> = Result<Option<(Vec<&'a [u8]>, usize)>, ProtocolError>;

/// The first request in `input`.
pub fn next_request(input: &[u8]) -> Found<'_> {
    match input.first() {
        None => Ok(None),
        Some(b'*') => array(input),
        Some(_) => inline(input),
    }
}

fn inline(input: &[u8]) -> Found<'_> {
    let Some((line, next)) = line(input, 0)? else { return Ok(None) };
    let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    Ok(Some((words.collect(), next)))
}

fn array(input: &[u8]) -> Found<'_> {
    let Some((count, mut at)) = number(input, 1, ProtocolError::MultibulkLength)? else { return Ok(None) };
    let count = match usize::try_from(count) {
        Ok(count) if count <= ARGUMENTS_MAX => count,
        // Redis takes a null array for an empty request.
        Err(_) if count == -1 => 0,
        _ => return Err(ProtocolError::MultibulkLength),
    };
    for _ in 0..count {
        match input.get(at) {
            None => return incomplete(input),
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::Expected(char::from(other))),
        }
        let Some((length, next)) = number(input, at + 1, ProtocolError::BulkLength)? else {
            return incomplete(input);
        };
        let length = usize::try_from(length).map_err(|_| ProtocolError::BulkLength)?;
        if length > REQUEST_BYTES_MAX {
            return Err(ProtocolError::TooBig);
        }
        at = next + length + 2;
        if at > REQUEST_BYTES_MAX {
            return Err(ProtocolError::TooBig);
        }
        // The decoder does not look, and whatever is there would be lost.
        if input.get(at - 2..at).is_some_and(|end| end != b"\r\n") {
            return Err(ProtocolError::Malformed("an argument is longer than announced".to_owned()));
        }
    }
    if input.len() < at {
        return incomplete(input);
    }
    if count == 0 {
        return Ok(Some((Vec::new(), at)));
    }
    let malformed = |text: &str| ProtocolError::Malformed(text.to_owned());
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

fn incomplete<T>(input: &[u8]) -> Result<Option<T>, ProtocolError> {
    if input.len() > REQUEST_BYTES_MAX { Err(ProtocolError::TooBig) } else { Ok(None) }
}

/// The line that begins at `from`, without its end, and where the next begins.
fn line(input: &[u8], from: usize) -> Result<Option<(&[u8], usize)>, ProtocolError> {
    let rest = &input[from..];
    match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = &rest[..end];
            Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), from + end + 1)))
        }
        None => incomplete(input),
    }
}

fn number(input: &[u8], from: usize, error: ProtocolError) -> Result<Option<(i64, usize)>, ProtocolError> {
    if from > input.len() {
        return Ok(None);
    }
    let Some((digits, next)) = line(input, from)? else { return Ok(None) };
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(error)?;
    Ok(Some((number, next)))
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
}

/// Appends a reply to `output`.
pub fn write_reply(reply: &Reply, output: &mut Vec<u8>) {
    match reply {
        // Frames borrow, so an array would need its frames to live somewhere: one level is all there is.
        Reply::Array(items) => {
            let frames: Vec<_> = items.iter().map(frame).collect();
            append(&BorrowedFrame::Array(&frames), output);
        }
        other => append(&frame(other), output),
    }
}

fn frame(reply: &Reply) -> BorrowedFrame<'_> {
    match reply {
        Reply::Simple(text) => BorrowedFrame::SimpleString(text.as_bytes()),
        Reply::Error(text) => BorrowedFrame::Error(text),
        Reply::Integer(number) => BorrowedFrame::Integer(*number),
        Reply::Bulk(bytes) => BorrowedFrame::BulkString(bytes),
        Reply::Null => BorrowedFrame::Null,
        Reply::Array(_) => BorrowedFrame::Array(&[]),
    }
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

    #[test]
    fn arrays_and_inline_lines_are_requests() {
        let bytes = request(&[b"SET", b"k", b"a\r\nb"]);
        assert_eq!(next_request(&bytes), Ok(Some((vec![&b"SET"[..], b"k", b"a\r\nb"], bytes.len()))));
        assert_eq!(next_request(b"  get  k \r\nrest"), Ok(Some((vec![&b"get"[..], b"k"], 11))));
        assert_eq!(next_request(b"\r\n"), Ok(Some((vec![], 2))));
        assert_eq!(next_request(b"*0\r\n"), Ok(Some((vec![], 4))));
        assert_eq!(next_request(b"*-1\r\n"), Ok(Some((vec![], 5))));
    }

    #[test]
    fn what_is_wrong_is_said_in_redis_words() {
        let said = |bytes: &[u8]| next_request(bytes).unwrap_err().to_string();
        assert_eq!(said(b"*x\r\n"), "invalid multibulk length");
        assert_eq!(said(b"*99999999\r\n"), "invalid multibulk length");
        assert_eq!(said(b"*-7\r\n"), "invalid multibulk length");
        assert_eq!(said(b"*1\r\n:5\r\n"), "expected '$', got ':'");
        assert_eq!(said(b"*1\r\n*1\r\n"), "expected '$', got '*'");
        assert_eq!(said(b"*1\r\n$-1\r\n"), "invalid bulk length");
        assert_eq!(said(b"*1\r\n$abc\r\n"), "invalid bulk length");
        assert!(said(b"*1\r\n$1000000000\r\n").starts_with("too big"));
        assert!(said(&vec![b'x'; REQUEST_BYTES_MAX + 1]).starts_with("too big"));
        assert!(!said(b"*1\r\n$2\r\nabXX").is_empty());
        assert!(said(&request(&[&vec![0; 40_000], &vec![0; 40_000]])).starts_with("too big"));
    }

    #[test]
    fn replies_are_written_as_redis_writes_them() {
        let written = |reply: Reply| {
            let mut output = b"before".to_vec();
            write_reply(&reply, &mut output);
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
            let (mut found, mut at) = (Vec::new(), 0);
            for end in [cut, all.len()] {
                while let Some((arguments, length)) = next_request(&all[at..end]).unwrap() {
                    found.push(arguments.iter().map(|a| a.to_vec()).collect::<Vec<_>>());
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
            let _ = next_request(&bytes);
        }

        #[test]
        fn hostile_text_never_panics(text in "[*$:0-9\r\n-]{0,60}") {
            let _ = next_request(text.as_bytes());
        }
    }
}
