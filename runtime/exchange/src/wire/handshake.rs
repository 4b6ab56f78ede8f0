//! Who may talk to whom: the same protocol version and the same exchange token.
//!
//! ```text
//!   consumer: magic u32 | version u16 | token length u16 | token
//!   producer: magic u32 | version u16 | status u16          0 = welcome, 1 = version, 2 = token
//! ```

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::HandshakeRefusal;

const MAGIC: u32 = u32::from_le_bytes(*b"thlw");
/// Goes up whenever a frame or an element is written otherwise.
pub(crate) const VERSION: u16 = 1;
const MAX_TOKEN_BYTES: u16 = 1024;
const WELCOME: u16 = 0;
const OTHER_VERSION: u16 = 1;
const OTHER_TOKEN: u16 = 2;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("{0}")]
    Refused(HandshakeRefusal),
    #[error("broke off")]
    Io(#[from] io::Error),
}

/// The consumer's part.
pub(crate) async fn greet(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    token: &str,
) -> Result<(), HandshakeError> {
    let length = u16::try_from(token.len())
        .ok()
        .filter(|length| *length <= MAX_TOKEN_BYTES);
    let length = length.ok_or_else(|| io::Error::other("the exchange token is longer than 1024 bytes"))?;
    let mut hello = Vec::with_capacity(8 + token.len());
    hello.extend_from_slice(&MAGIC.to_le_bytes());
    hello.extend_from_slice(&VERSION.to_le_bytes());
    hello.extend_from_slice(&length.to_le_bytes());
    hello.extend_from_slice(token.as_bytes());
    stream.write_all(&hello).await?;
    if stream.read_u32_le().await? != MAGIC {
        return Err(HandshakeError::Refused(HandshakeRefusal::NotAnExchange));
    }
    let theirs = stream.read_u16_le().await?;
    match stream.read_u16_le().await? {
        WELCOME => Ok(()),
        OTHER_VERSION => Err(HandshakeError::Refused(HandshakeRefusal::Version {
            ours: VERSION,
            theirs,
        })),
        OTHER_TOKEN => Err(HandshakeError::Refused(HandshakeRefusal::Token)),
        _ => Err(HandshakeError::Refused(HandshakeRefusal::NotAnExchange)),
    }
}

/// The producer's part: says welcome, or why not.
pub(crate) async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    token: &str,
) -> Result<(), HandshakeError> {
    if stream.read_u32_le().await? != MAGIC {
        return Err(HandshakeError::Refused(HandshakeRefusal::NotAnExchange));
    }
    let theirs = stream.read_u16_le().await?;
    let length = stream.read_u16_le().await?;
    if theirs != VERSION || length > MAX_TOKEN_BYTES {
        reply(stream, OTHER_VERSION).await?;
        return Err(HandshakeError::Refused(HandshakeRefusal::Version {
            ours: VERSION,
            theirs,
        }));
    }
    let mut given = vec![0; length.into()];
    stream.read_exact(&mut given).await?;
    if !is_same(&given, token.as_bytes()) {
        reply(stream, OTHER_TOKEN).await?;
        return Err(HandshakeError::Refused(HandshakeRefusal::Token));
    }
    reply(stream, WELCOME).await?;
    Ok(())
}

async fn reply(stream: &mut (impl AsyncWrite + Unpin), status: u16) -> io::Result<()> {
    let mut reply = [0; 8];
    reply[..4].copy_from_slice(&MAGIC.to_le_bytes());
    reply[4..6].copy_from_slice(&VERSION.to_le_bytes());
    reply[6..].copy_from_slice(&status.to_le_bytes());
    stream.write_all(&reply).await
}

/// Compares in a time that doesn't tell where the first difference is.
fn is_same(given: &[u8], expected: &[u8]) -> bool {
    given.len() == expected.len() && given.iter().zip(expected).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shake(
        greeting: &str,
        answering: &str,
    ) -> (Result<(), HandshakeError>, Result<(), HandshakeError>) {
        let (mut consumer, mut producer) = tokio::io::duplex(64);
        tokio::join!(greet(&mut consumer, greeting), answer(&mut producer, answering))
    }

    #[tokio::test]
    async fn the_same_token_is_welcome() {
        let (consumer, producer) = shake("secret", "secret").await;
        assert!(consumer.is_ok() && producer.is_ok());
    }

    #[tokio::test]
    async fn another_token_is_refused_on_both_sides() {
        let (consumer, producer) = shake("secret", "secreT").await;
        assert!(matches!(
            consumer,
            Err(HandshakeError::Refused(HandshakeRefusal::Token))
        ));
        assert!(matches!(
            producer,
            Err(HandshakeError::Refused(HandshakeRefusal::Token))
        ));
    }

    #[tokio::test]
    async fn another_version_is_named() {
        let (mut consumer, mut producer) = tokio::io::duplex(64);
        let old = async {
            consumer
                .write_all(&[&MAGIC.to_le_bytes()[..], &[9, 0, 0, 0]].concat())
                .await
                .unwrap();
        };
        let (answered, ()) = tokio::join!(answer(&mut producer, "secret"), old);
        let refusal = HandshakeRefusal::Version {
            ours: VERSION,
            theirs: 9,
        };
        assert!(matches!(answered, Err(HandshakeError::Refused(found)) if found == refusal));
    }

    #[tokio::test]
    async fn a_stranger_is_recognised() {
        let (mut stranger, mut producer) = tokio::io::duplex(64);
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let answered = answer(&mut producer, "secret").await;
        assert!(matches!(
            answered,
            Err(HandshakeError::Refused(HandshakeRefusal::NotAnExchange))
        ));
    }
}
