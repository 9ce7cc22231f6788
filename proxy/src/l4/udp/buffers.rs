//! Room for a batch of datagrams; one per worker.

use std::io::{self, IoSliceMut};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};

/// The buffers of a worker and what was received into them.
pub(super) struct Buffers {
    bytes: Box<[u8]>,
    metas: [RecvMeta; BATCH_SIZE],
}

/// The datagrams in one buffer: one, or several of one sender (`UDP_GRO`), each `stride` long but the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received<'a> {
    pub(super) meta: RecvMeta,
    pub(super) bytes: &'a [u8],
}

impl Received<'_> {
    /// The single datagrams.
    pub(super) fn segments(&self) -> impl Iterator<Item = &[u8]> {
        // An empty datagram is one, too.
        let empty = self.bytes.is_empty().then_some(self.bytes);
        self.bytes.chunks(self.meta.stride.max(1)).chain(empty)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.bytes.len().div_ceil(self.meta.stride.max(1)).max(1)
    }
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            // Fresh pages of the kernel: what no datagram fills takes no memory.
            bytes: vec![0; BATCH_SIZE * LARGEST].into_boxed_slice(),
            metas: [RecvMeta::default(); BATCH_SIZE],
        }
    }

    /// Receives into the buffers from `first` on; gives how many were filled.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing, else what the socket says.
    pub(super) fn receive(
        &mut self,
        state: &UdpSocketState,
        socket: UdpSockRef<'_>,
        first: usize,
    ) -> io::Result<usize> {
        let free = self.bytes.get_mut(first * LARGEST..).unwrap_or_default();
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(free.chunks_exact_mut(LARGEST)) {
            *slice = IoSliceMut::new(bytes);
            count += 1;
        }
        let slices = slices.get_mut(..count).unwrap_or_default();
        let metas = self.metas.get_mut(first..).unwrap_or_default();
        state.recv(socket, slices, metas)
    }

    /// What is in a buffer.
    pub(super) fn get(&self, index: usize) -> Option<Received<'_>> {
        let meta = *self.metas.get(index)?;
        let start = index * LARGEST;
        let bytes = self.bytes.get(start..start + meta.len)?;
        Some(Received { meta, bytes })
    }
}

/// No datagram is longer; `UDP_GRO` gives no more at once, either.
const LARGEST: usize = 64 * 1024;

/// How many datagrams are received at once.
pub(super) const BATCH: usize = BATCH_SIZE;
