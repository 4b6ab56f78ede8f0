//! What both ends of a connection share: elements cut into frames and put together again.
//!
//! The multiplexer holds at most one element a channel and hands out frames in turn. Control elements go to the front:
//! a barrier waits for the frame that is being written, not for the data of other channels.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};

use arrow::buffer::Buffer;
use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::wire::codec::{EncodedElement, MAX_ELEMENT_BYTES};
use crate::wire::frame::{FIRST, FrameError, FrameHeader, FrameKind, HEADER_BYTES, LAST};

/// The system takes 1,024 pieces at a time.
const MAX_PIECES_A_WRITE: usize = 512;

#[derive(Debug)]
struct InProgress {
    channel: u32,
    pieces: VecDeque<Buffer>,
    left: usize,
    total: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Multiplexer {
    turns: VecDeque<InProgress>,
}

impl Multiplexer {
    /// Adds an element; its channel must have none in progress.
    pub(crate) fn push(&mut self, channel: u32, element: EncodedElement) {
        debug_assert!(!self.holds(channel));
        let EncodedElement {
            pieces,
            total,
            control,
        } = element;
        let in_progress = InProgress {
            channel,
            pieces: pieces.into(),
            left: total,
            total,
        };
        if control {
            self.turns.push_front(in_progress);
        } else {
            self.turns.push_back(in_progress);
        }
    }

    /// Whether an element of this channel is in progress.
    pub(crate) fn holds(&self, channel: u32) -> bool {
        self.turns
            .iter()
            .any(|in_progress| in_progress.channel == channel)
    }

    /// Whether nothing is in progress.
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Forgets what is left of a channel's element; its receiver was told, or is gone.
    pub(crate) fn forget(&mut self, channel: u32) {
        self.turns.retain(|in_progress| in_progress.channel != channel);
    }

    /// Appends the next frame, of at most `limit` bytes behind the header, to `out`. Returns those bytes and, if an
    /// element is complete with it, its channel.
    pub(crate) fn next_frame(&mut self, limit: usize, out: &mut Vec<Buffer>) -> Option<(usize, Option<u32>)> {
        let mut element = self.turns.pop_front()?;
        let length = element.left.min(limit);
        let mut flags = 0;
        if element.left == element.total {
            flags |= FIRST;
        }
        element.left -= length;
        if element.left == 0 {
            flags |= LAST;
        }
        let header = FrameHeader {
            flags,
            total: element.total as u32,
            ..FrameHeader::new(FrameKind::Data, element.channel, length)
        };
        out.push(Buffer::from(&header.encode()[..]));
        take_pieces(&mut element.pieces, length, out);
        if element.left == 0 {
            return Some((length, Some(element.channel)));
        }
        self.turns.push_back(element);
        Some((length, None))
    }
}

/// Moves `length` bytes from the front of `pieces` to `out`, without copying them.
fn take_pieces(pieces: &mut VecDeque<Buffer>, mut length: usize, out: &mut Vec<Buffer>) {
    while length > 0 {
        let Some(mut piece) = pieces.pop_front() else {
            return;
        };
        if piece.len() > length {
            pieces.push_front(piece.slice(length));
            piece = piece.slice_with_length(0, length);
        }
        length -= piece.len();
        out.push(piece);
    }
}

/// Writes all pieces, vectored.
pub(crate) async fn write_all(writer: &mut (impl AsyncWrite + Unpin), pieces: &[Buffer]) -> io::Result<()> {
    for pieces in pieces.chunks(MAX_PIECES_A_WRITE) {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut left = &mut slices[..];
        while !left.is_empty() {
            let written = writer.write_vectored(left).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut left, written);
        }
    }
    Ok(())
}

/// Reads a frame's header; `None` when the peer has closed the connection between two frames.
pub(crate) async fn read_header(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<FrameHeader>> {
    let mut header = [0; HEADER_BYTES];
    let first = reader.read(&mut header).await?;
    if first == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut header[first..]).await?;
    FrameHeader::decode(header).map(Some).map_err(io::Error::other)
}

/// Puts elements together, each in one buffer of its exact size, read into from the socket.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    elements: HashMap<u32, Vec<u8>>,
}

impl Assembler {
    /// Reads what is behind a DATA header; returns the element if that was its end.
    pub(crate) async fn read(
        &mut self,
        header: FrameHeader,
        reader: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Option<Vec<u8>>> {
        let FrameHeader {
            kind,
            flags,
            channel,
            length,
            total,
        } = header;
        let (length, total) = (length as usize, total as usize);
        let mut element = self.elements.remove(&channel);
        if flags & FIRST != 0 && element.is_none() && total <= MAX_ELEMENT_BYTES {
            element = Some(Vec::with_capacity(total));
        }
        let unexpected = || io::Error::other(FrameError::Unexpected { kind, channel });
        let mut element = element.ok_or_else(unexpected)?;
        if element.len() + length > total {
            return Err(unexpected());
        }
        read_into(&mut element, length, reader).await?;
        if flags & LAST == 0 {
            self.elements.insert(channel, element);
            return Ok(None);
        }
        if element.len() == total {
            Ok(Some(element))
        } else {
            Err(unexpected())
        }
    }

    /// Forgets what has come of a channel's element.
    pub(crate) fn forget(&mut self, channel: u32) {
        self.elements.remove(&channel);
    }
}

async fn read_into(
    element: &mut Vec<u8>,
    length: usize,
    reader: &mut (impl AsyncRead + Unpin),
) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let read = reader.read_buf(&mut (&mut *element).limit(left)).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= read;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(bytes: usize, control: bool) -> EncodedElement {
        let content: Vec<u8> = (0..bytes).map(|byte| byte as u8).collect();
        let (head, tail) = content.split_at(bytes / 3);
        EncodedElement {
            pieces: vec![Buffer::from(head), Buffer::from(tail)],
            total: bytes,
            control,
        }
    }

    fn channels(multiplexer: &mut Multiplexer, limit: usize) -> Vec<(u32, usize)> {
        let mut frames = Vec::new();
        let mut out = Vec::new();
        while let Some((length, _)) = multiplexer.next_frame(limit, &mut out) {
            let header = FrameHeader::decode(out[0].as_slice().try_into().unwrap()).unwrap();
            frames.push((header.channel, length));
            out.clear();
        }
        frames
    }

    #[test]
    fn large_elements_share_the_connection_frame_by_frame() {
        let mut multiplexer = Multiplexer::default();
        multiplexer.push(1, element(25, false));
        multiplexer.push(2, element(15, false));
        assert_eq!(
            channels(&mut multiplexer, 10),
            [(1, 10), (2, 10), (1, 10), (2, 5), (1, 5)]
        );
    }

    #[test]
    fn a_barrier_waits_for_no_data_of_other_channels() {
        let mut multiplexer = Multiplexer::default();
        multiplexer.push(1, element(30, false));
        multiplexer.push(2, element(30, false));
        multiplexer.next_frame(10, &mut Vec::new());
        multiplexer.push(3, element(4, true));
        assert_eq!(channels(&mut multiplexer, 10)[0], (3, 4));
    }

    #[tokio::test]
    async fn what_was_cut_is_put_together_byte_for_byte() {
        let mut multiplexer = Multiplexer::default();
        multiplexer.push(1, element(1000, false));
        multiplexer.push(2, element(33, false));
        let mut pieces = Vec::new();
        while multiplexer.next_frame(64, &mut pieces).is_some() {}
        let mut wire = Vec::new();
        write_all(&mut wire, &pieces).await.unwrap();
        let (mut reader, mut assembler, mut elements) = (&wire[..], Assembler::default(), Vec::new());
        while let Some(header) = read_header(&mut reader).await.unwrap() {
            elements.extend(assembler.read(header, &mut reader).await.unwrap());
        }
        let expected = |bytes: usize| (0..bytes).map(|byte| byte as u8).collect::<Vec<u8>>();
        assert_eq!(elements, [expected(33), expected(1000)]);
    }

    #[tokio::test]
    async fn a_fragment_without_a_beginning_is_refused() {
        let header = FrameHeader::new(FrameKind::Data, 1, 4);
        let error = Assembler::default()
            .read(header, &mut &b"abcd"[..])
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "protocol error: unexpected Data frame on channel number 1"
        );
    }
}
