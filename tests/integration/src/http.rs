//! The smallest HTTP client that reads a health page, and posts a document.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer: its status code and its body.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body, decoded from chunks when it came in chunks.
    pub body: String,
}

/// `GET path` from 127.0.0.1:`port`, with extra header lines such as `("Accept", "application/json")`.
pub async fn get(port: u16, path: &str, headers: &[(&str, &str)], timeout: Duration) -> Result<Response> {
    send(port, &format!("GET {path}"), headers, "", timeout).await
}

/// `POST path` to 127.0.0.1:`port`, with a JSON document.
pub async fn post(port: u16, path: &str, body: &str, timeout: Duration) -> Result<Response> {
    let length = body.len().to_string();
    let headers = [("Content-Type", "application/json"), ("Content-Length", &length)];
    send(port, &format!("POST {path}"), &headers, body, timeout).await
}

/// `DELETE path` at 127.0.0.1:`port`.
pub async fn delete(port: u16, path: &str, timeout: Duration) -> Result<Response> {
    send(port, &format!("DELETE {path}"), &[], "", timeout).await
}

async fn send(port: u16, what: &str, headers: &[(&str, &str)], body: &str, timeout: Duration) -> Result<Response> {
    let answer = tokio::time::timeout(timeout, exchange(port, what, headers, body)).await;
    answer.with_context(|| format!("no answer to {what} within {timeout:?}"))?
}

async fn exchange(port: u16, what: &str, headers: &[(&str, &str)], body: &str) -> Result<Response> {
    let mut stream =
        TcpStream::connect(("127.0.0.1", port)).await.with_context(|| format!("connect to port {port}"))?;
    let mut request = format!("{what} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes()).await.with_context(|| format!("send {what}"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.with_context(|| format!("read the answer to {what}"))?;
    parse(&answer).with_context(|| format!("understand the answer to {what}"))
}

fn parse(answer: &[u8]) -> Result<Response> {
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n").context("the header has no end")?;
    let header = std::str::from_utf8(&answer[..split]).context("the header is not UTF-8")?;
    let body = &answer[split + 4..];
    let status = header.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status code")?;
    let chunked = header.to_ascii_lowercase().lines().any(|line| line.trim() == "transfer-encoding: chunked");
    let body = if chunked { unchunk(body)? } else { body.to_vec() };
    Ok(Response { status, body: String::from_utf8(body).context("the body is not UTF-8")? })
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").context("a chunk has no size")?;
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        let size = size.context("a chunk's size is no number")?;
        if size == 0 {
            return Ok(body);
        }
        let start = end + 2;
        if rest.len() < start + size + 2 {
            bail!("the last chunk is cut off");
        }
        body.extend_from_slice(&rest[start..start + size]);
        rest = &rest[start + size + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_plain_and_a_chunked_body() {
        let plain = parse(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nlag").unwrap();
        assert_eq!((plain.status, plain.body.as_str()), (503, "lag"));
        let chunked =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n").unwrap();
        assert_eq!((chunked.status, chunked.body.as_str()), (200, "abc"));
    }
}
