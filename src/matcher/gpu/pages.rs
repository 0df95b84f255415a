//! Tables to pages: runs of consecutive segments whose every array fits in a binding.

use super::device::Gpu;
use super::error::GpuError;
use super::launch::HEIGHT_MAX;
use crate::tables::MatchTables;
use crate::tables::layout::{LANES, Partition, Segment, Term};
use bytemuck::Pod;
use std::ops::Range;
use wgpu::{Buffer, BufferDescriptor, BufferUsages};

/// Bytes that go to the device at once; each such piece needs as much memory again until the device has it.
const UPLOAD_BYTES: usize = 64 << 20;

/// Where a page lies within the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub segments: Range<usize>,
    pub nodes: Range<usize>,
    pub groups: Range<usize>,
    pub blocks: Range<usize>,
    /// Of its highest segment.
    pub height: u32,
    /// Roots that one row is put on, at most.
    pub roots_max: u64,
}

impl Extent {
    /// With another segment behind it.
    fn with(&self, segment: &Segment) -> Self {
        let join = |range: &Range<usize>, first: u32, len: u32| {
            let (first, end) = (first as usize, first as usize + len as usize);
            match (len, range.is_empty()) {
                (0, _) => range.clone(),
                (_, true) => first..end,
                (_, false) => range.start.min(first)..range.end.max(end),
            }
        };
        Self {
            segments: self.segments.start..self.segments.end + 1,
            nodes: join(&self.nodes, segment.first_node, segment.nodes),
            groups: join(&self.groups, segment.first_group, segment.groups),
            blocks: join(&self.blocks, segment.first_block, segment.blocks),
            height: self.height.max(segment.height),
            roots_max: 0,
        }
    }

    fn starting_at(segment: usize) -> Self {
        Self { segments: segment..segment, nodes: 0..0, groups: 0..0, blocks: 0..0, height: 0, roots_max: 0 }
    }

    /// Bytes of its largest array.
    fn binding(&self) -> u64 {
        let segments = self.segments.len() * size_of::<Segment>();
        let blocks = self.nodes.len().max(self.blocks.len()) * size_of::<crate::tables::layout::Block>();
        let terms = self.groups.len() * LANES * size_of::<Term>();
        segments.max(blocks).max(terms) as u64
    }
}

/// Cuts the tables into pages whose every array has `binding_max` bytes at most.
pub fn plan(tables: &MatchTables, binding_max: u64) -> Result<Vec<Extent>, GpuError> {
    let inside = |range: &Range<usize>, len: usize| range.is_empty() || range.end <= len;
    let mut pages = Vec::new();
    let mut page = Extent::starting_at(0);
    for (nth, segment) in tables.segments.iter().enumerate() {
        if segment.height > HEIGHT_MAX {
            return Err(GpuError::Tables("a segment is too high"));
        }
        let mut wider = page.with(segment);
        if wider.binding() > binding_max && !page.segments.is_empty() {
            pages.push(page);
            wider = Extent::starting_at(nth).with(segment);
        }
        if wider.binding() > binding_max {
            return Err(GpuError::TooLarge { what: "a segment of the match tables is", bytes: wider.binding(), limit: binding_max });
        }
        if !inside(&wider.nodes, tables.nodes.len().min(tables.node_children.len()))
            || !inside(&wider.groups, tables.groups.len().min(tables.terms.len() / LANES))
            || !inside(&wider.blocks, tables.leaf_blocks.len())
        {
            return Err(GpuError::Tables("a segment lies outside the tables"));
        }
        page = wider;
    }
    if !page.segments.is_empty() {
        pages.push(page);
    }
    for page in &mut pages {
        page.roots_max = roots_max(tables.partitions, &page.segments);
    }
    Ok(pages)
}

/// Roots of the page that one row is put on at most: those of partition 0, and those of the largest other partition.
fn roots_max(partitions: &[Partition], segments: &Range<usize>) -> u64 {
    let on_page = |partition: &Partition| {
        let first = (partition.first_segment as usize).max(segments.start);
        let end = (partition.first_segment as usize + partition.segments as usize).min(segments.end);
        end.saturating_sub(first) as u64
    };
    let others = partitions.iter().skip(1).map(on_page).max();
    partitions.first().map_or(0, on_page) + others.unwrap_or(0)
}

/// A page on the device.
pub struct Page {
    pub extent: Extent,
    pub segments: Buffer,
    pub nodes: Buffer,
    pub node_children: Buffer,
    pub groups: Buffer,
    pub leaf_blocks: Buffer,
    pub terms: Buffer,
}

/// The tables on the device: all the pages, and what they share.
pub struct Resident {
    pub columns: usize,
    /// Length of the partition table.
    pub partition_count: usize,
    pub pages: Vec<Page>,
    pub partitions: Buffer,
    pub tails: Buffer,
    pub set_tests: Buffer,
    pub intervals: Buffer,
    /// Bytes on the device.
    pub bytes: u64,
}

impl Resident {
    /// Copies the tables to the device.
    pub fn upload(gpu: &Gpu, tables: &MatchTables, binding_max: u64) -> Result<Self, GpuError> {
        for (what, bytes) in [
            ("the partition table is", size_of_val(tables.partitions)),
            ("the tails are", size_of_val(tables.tails)),
            ("the list memberships are", size_of_val(tables.set_tests)),
            ("the lists' intervals are", size_of_val(tables.intervals)),
        ] {
            if bytes as u64 > binding_max {
                return Err(GpuError::TooLarge { what, bytes: bytes as u64, limit: binding_max });
            }
        }
        let extents = plan(tables, binding_max)?;
        gpu.guard(|| {
            let mut pages = Vec::with_capacity(extents.len());
            for extent in extents {
                let groups = &extent.groups;
                pages.push(Page {
                    segments: upload(gpu, "segments", &tables.segments[extent.segments.clone()])?,
                    nodes: upload(gpu, "nodes", &tables.nodes[extent.nodes.clone()])?,
                    node_children: upload(gpu, "node_children", &tables.node_children[extent.nodes.clone()])?,
                    groups: upload(gpu, "groups", &tables.groups[groups.clone()])?,
                    leaf_blocks: upload(gpu, "leaf_blocks", &tables.leaf_blocks[extent.blocks.clone()])?,
                    terms: upload(gpu, "terms", &tables.terms[groups.start * LANES..groups.end * LANES])?,
                    extent,
                });
            }
            let mut resident = Self {
                columns: tables.columns,
                partition_count: tables.partitions.len(),
                pages,
                partitions: upload(gpu, "partitions", tables.partitions)?,
                tails: upload(gpu, "tails", tables.tails)?,
                set_tests: upload(gpu, "set_tests", tables.set_tests)?,
                intervals: upload(gpu, "intervals", tables.intervals)?,
                bytes: 0,
            };
            let common = [&resident.partitions, &resident.tails, &resident.set_tests, &resident.intervals];
            let paged = resident.pages.iter().flat_map(|page| {
                [&page.segments, &page.nodes, &page.node_children, &page.groups, &page.leaf_blocks, &page.terms].into_iter()
            });
            resident.bytes = common.into_iter().chain(paged).map(Buffer::size).sum();
            Ok(resident)
        })
    }
}

/// A buffer with the items' bytes. Empty arrays get room for one item, because a binding cannot be empty.
fn upload<T: Pod>(gpu: &Gpu, label: &str, items: &[T]) -> Result<Buffer, GpuError> {
    let bytes: &[u8] = bytemuck::cast_slice(items);
    let buffer = gpu.device.create_buffer(&BufferDescriptor {
        label: Some(label),
        size: bytes.len().max(size_of::<T>()) as u64,
        usage: BufferUsages::STORAGE | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut offset = 0;
    for piece in bytes.chunks(UPLOAD_BYTES) {
        gpu.queue.write_buffer(&buffer, offset, piece);
        offset += piece.len() as u64;
        if piece.len() == UPLOAD_BYTES {
            let submission = gpu.queue.submit([]);
            gpu.wait(submission, super::flight::TIMEOUT)?;
        }
    }
    Ok(buffer)
}
