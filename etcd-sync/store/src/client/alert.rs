//! Remembers why a server ended a TLS connection.
//!
//! In TLS 1.3 a server refuses our certificate only after our side of the handshake: its alert arrives where the first
//! answer is expected, and the request that waits for it learns no more than "cancelled".

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A TLS stream that notes the first fatal alert it receives.
pub(crate) struct NoteAlert<S> {
    stream: S,
    alert: Arc<OnceLock<String>>,
}

impl<S> NoteAlert<S> {
    pub(crate) fn new(stream: S, alert: Arc<OnceLock<String>>) -> Self {
        NoteAlert { stream, alert }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NoteAlert<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read {
            let text = error.to_string();
            if text.contains("alert") {
                let _ = self.alert.set(text);
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NoteAlert<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
