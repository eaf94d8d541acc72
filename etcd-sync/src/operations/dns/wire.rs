//! Messages to one name server and back: UDP, and TCP where an answer does not fit or must not get lost.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one try may take.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// A datagram may get lost.
const TRIES: usize = 2;

/// How long a server may take over an update: it writes to its disk.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Nobody answers.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Nobody is there.
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// It answers nonsense.
    #[error("it answers with something that is no DNS message")]
    Garbage,
}

/// What came back after an update was sent.
pub enum Sent {
    /// An answer, as its bytes.
    Answered(Vec<u8>),
    /// It may or may not have arrived.
    Unknown(WireError),
}

/// Asks a question.
pub async fn ask(server: SocketAddr, question: &Message) -> Result<Message, WireError> {
    let bytes = question.to_vec().map_err(|_| WireError::Garbage)?;
    let mut last = WireError::Timeout(TIMEOUT);
    for _ in 0..TRIES {
        match timeout(TIMEOUT, by_udp(server, question, &bytes)).await {
            Ok(Ok(answer)) if answer.truncation => return truncated(server, question, &bytes).await,
            Ok(Ok(answer)) => return Ok(answer),
            // It says so itself: asking again changes nothing.
            Ok(Err(error)) => return Err(error),
            Err(_) => last = WireError::Timeout(TIMEOUT * TRIES as u32),
        }
    }
    Err(last)
}

/// Sends an update once. By TCP, where it is known whether it can have arrived; by UDP only where nobody takes connections.
pub async fn update(servers: &[SocketAddr], message: &Message) -> Result<Sent, WireError> {
    let bytes = message.to_vec().map_err(|_| WireError::Garbage)?;
    for server in servers {
        if let Ok(Ok(stream)) = timeout(TIMEOUT, TcpStream::connect(server)).await {
            let answered = timeout(UPDATE_TIMEOUT, by_tcp(stream, &bytes)).await;
            return Ok(match answered {
                Ok(Ok(answer)) if is_answer(&answer, message) => Sent::Answered(answer),
                Ok(Ok(_)) => Sent::Unknown(WireError::Garbage),
                Ok(Err(error)) => Sent::Unknown(WireError::Broken(error)),
                Err(_) => Sent::Unknown(WireError::Timeout(UPDATE_TIMEOUT)),
            });
        }
    }
    let mut last = WireError::Timeout(TIMEOUT);
    for server in servers {
        match timeout(UPDATE_TIMEOUT, datagram(*server, &bytes, |answer| is_answer(answer, message))).await {
            Ok(Ok(answer)) => return Ok(Sent::Answered(answer)),
            // Nobody listens there: it was thrown away.
            Ok(Err(error)) => last = error,
            Err(_) => return Ok(Sent::Unknown(WireError::Timeout(UPDATE_TIMEOUT))),
        }
    }
    Err(last)
}

async fn truncated(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, WireError> {
    let whole = async {
        let stream = TcpStream::connect(server).await.map_err(WireError::Unreachable)?;
        by_tcp(stream, bytes).await.map_err(WireError::Broken)
    };
    let answer = timeout(TIMEOUT, whole).await.map_err(|_| WireError::Timeout(TIMEOUT))??;
    let answer = Message::from_vec(&answer).map_err(|_| WireError::Garbage)?;
    if fits(&answer, question) { Ok(answer) } else { Err(WireError::Garbage) }
}

async fn by_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, WireError> {
    let wanted = |answer: &[u8]| Message::from_vec(answer).is_ok_and(|answer| fits(&answer, question));
    let answer = datagram(server, bytes, wanted).await?;
    Message::from_vec(&answer).map_err(|_| WireError::Garbage)
}

/// Sends one datagram and waits for one that is wanted, from that server only; what else comes is passed over.
async fn datagram(server: SocketAddr, bytes: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, WireError> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The kernel picks a port that is hard to guess.
    let socket = UdpSocket::bind((any, 0)).await.map_err(WireError::Unreachable)?;
    socket.connect(server).await.map_err(WireError::Unreachable)?;
    socket.send(bytes).await.map_err(WireError::Unreachable)?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(WireError::Unreachable)?;
        if wanted(&buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

/// One message each way, behind its length (RFC 1035, 4.2.2).
async fn by_tcp(mut stream: TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn is_answer(bytes: &[u8], message: &Message) -> bool {
    Message::from_vec(bytes).is_ok_and(|answer| answer.id == message.id && answer.message_type == MessageType::Response)
}

/// An answer to this very question. A server that does not understand it may omit it.
fn fits(answer: &Message, question: &Message) -> bool {
    answer.id == question.id
        && answer.message_type == MessageType::Response
        && (answer.queries == question.queries || answer.queries.is_empty())
}
