//! Tables to pages: runs of consecutive segments whose every array fits in a binding.

use super::device::Gpu;
use super::error::GpuError;
use super::launch::HEIGHT_MAX;
use super::output::Verdict;
use crate::matcher::output::returned_lanes;
use crate::tables::MatchTables;
use crate::tables::layout::{AT_EDGES, Group, LANES, NONE, Node, Partition, SLOTS_MAX, Segment, SlotLanes, Tail};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;
use wgpu::{Buffer, BufferDescriptor, BufferUsages};

/// Bytes that go to the device at once; each such piece needs as much memory again until the device has it.
const UPLOAD_BYTES: usize = 64 << 20;

/// A group as the kernels see it, twin of the `ResidentGroup` in shaders/shared/tables.wgsl: [`Group`], and what is known of its lanes, as bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ResidentGroup {
    pub slots: [u32; SLOTS_MAX],
    pub tailed: u32,
    pub first_tail: u32,
    /// Lanes that have a term.
    pub used: u32,
    /// Lanes whose tail only tells what the buckets of their slots leave open.
    pub at_edges: u32,
    /// Lanes whose rules no kernel may count: the host decides them.
    pub returned: u32,
}

impl ResidentGroup {
    fn new(tables: &MatchTables, group: usize, returned: u32) -> Self {
        let Group { slots, tailed, first_tail } = tables.groups[group];
        let bits = |holds: &dyn Fn(usize) -> bool| (0..LANES).fold(0, |bits, lane| bits | u32::from(holds(lane)) << lane);
        Self {
            slots,
            tailed,
            first_tail,
            used: bits(&|lane| tables.term_rules[group * LANES + lane] != NONE),
            at_edges: bits(&|lane| tables.groups[group].tail_ref(lane).is_some_and(|at| tables.tail_refs[at] & AT_EDGES != 0)),
            returned,
        }
    }
}

/// Where a page lies within the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub segments: Range<usize>,
    pub nodes: Range<usize>,
    pub groups: Range<usize>,
    pub slots: Range<usize>,
    /// Within the references to tails.
    pub tails: Range<usize>,
    /// Of its highest segment.
    pub height: u32,
    /// Roots that one row is put on, at most.
    pub roots_max: u64,
    /// Groups of one segment, at most.
    pub groups_max: u32,
}

impl Extent {
    /// With another segment behind it, which holds these tails.
    fn with(&self, segment: &Segment, tails: &Range<usize>) -> Self {
        let join = |range: &Range<usize>, other: Range<usize>| match (other.is_empty(), range.is_empty()) {
            (true, _) => range.clone(),
            (_, true) => other,
            (_, false) => range.start.min(other.start)..range.end.max(other.end),
        };
        let run = |first: u32, len: u32| first as usize..first as usize + len as usize;
        Self {
            segments: self.segments.start..self.segments.end + 1,
            nodes: join(&self.nodes, run(segment.first_node, segment.nodes)),
            groups: join(&self.groups, run(segment.first_group, segment.groups)),
            slots: join(&self.slots, run(segment.first_slot, segment.slots)),
            tails: join(&self.tails, tails.clone()),
            height: self.height.max(segment.height),
            roots_max: 0,
            groups_max: 0,
        }
    }

    fn starting_at(segment: usize) -> Self {
        Self { segments: segment..segment, nodes: 0..0, groups: 0..0, slots: 0..0, tails: 0..0, height: 0, roots_max: 0, groups_max: 0 }
    }

    /// Bytes of its largest array.
    fn binding(&self) -> u64 {
        let bytes = [
            self.segments.len() * size_of::<Segment>(),
            self.nodes.len() * size_of::<Node>(),
            self.groups.len() * size_of::<ResidentGroup>(),
            self.slots.len() * size_of::<SlotLanes>(),
            self.tails.len() * size_of::<Tail>(),
            self.groups.len() * LANES * size_of::<u32>(),
        ];
        bytes.into_iter().max().unwrap_or(0) as u64
    }
}

/// Where the tails of a segment's groups stand, if the tables have its groups.
fn tails_of(tables: &MatchTables, segment: &Segment) -> Option<Range<usize>> {
    let first = segment.first_group as usize;
    let groups = tables.groups.get(first..first + segment.groups as usize)?;
    let tailed = groups.iter().filter(|group| group.tailed != 0);
    let ends = tailed.map(|group| (group.first_tail as usize, group.first_tail as usize + group.tailed.count_ones() as usize));
    Some(ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).map_or(0..0, |(start, end)| start..end))
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
        let outside = || GpuError::Tables("a segment lies outside the tables");
        let tails = tails_of(tables, segment).ok_or_else(outside)?;
        let mut wider = page.with(segment, &tails);
        if wider.binding() > binding_max && !page.segments.is_empty() {
            pages.push(page);
            wider = Extent::starting_at(nth).with(segment, &tails);
        }
        if wider.binding() > binding_max {
            return Err(GpuError::TooLarge { what: "a segment of the match tables is", bytes: wider.binding(), limit: binding_max });
        }
        if !inside(&wider.nodes, tables.nodes.len().min(tables.node_children.len()))
            || !inside(&wider.groups, tables.groups.len().min(tables.term_rules.len() / LANES))
            || !inside(&wider.slots, tables.leaf_slots.len())
            || !inside(&wider.tails, tables.tail_refs.len())
        {
            return Err(outside());
        }
        page = wider;
    }
    if !page.segments.is_empty() {
        pages.push(page);
    }
    for page in &mut pages {
        page.roots_max = roots_max(tables.partitions, &page.segments);
        page.groups_max = tables.segments[page.segments.clone()].iter().map(|segment| segment.groups).max().unwrap_or(0);
    }
    Ok(pages)
}

/// The segments of a partition that are among those of a page.
fn on_page(partition: &Partition, segments: &Range<usize>) -> Range<usize> {
    let first = (partition.first_segment as usize).clamp(segments.start, segments.end);
    first..(partition.first_segment as usize + partition.segments as usize).clamp(first, segments.end)
}

/// Roots of the page that one row is put on at most: those of partition 0, and those of the largest other partition.
fn roots_max(partitions: &[Partition], segments: &Range<usize>) -> u64 {
    let roots = |partition: &Partition| on_page(partition, segments).len() as u64;
    let others = partitions.iter().skip(1).map(roots).max();
    partitions.first().map_or(0, roots) + others.unwrap_or(0)
}

/// A page on the device.
pub struct Page {
    pub extent: Extent,
    pub segments: Buffer,
    pub nodes: Buffer,
    pub node_children: Buffer,
    pub groups: Buffer,
    pub leaf_slots: Buffer,
    /// A tail for each reference to one.
    pub tails: Buffer,
    pub term_rules: Buffer,
}

/// The tables on the device: all the pages, and what they share.
pub struct Resident {
    pub columns: usize,
    /// Length of the partition table.
    pub partition_count: usize,
    pub pages: Vec<Page>,
    pub partitions: Buffer,
    /// The same without rules of every tenant.
    pub tenants: Buffer,
    pub steps: Buffer,
    pub set_tests: Buffer,
    pub intervals: Buffer,
    pub verdicts: Buffer,
    /// Bytes on the device.
    pub bytes: u64,
}

impl Resident {
    /// Copies the tables to the device, and, unless there are none, what their rules count for.
    pub fn upload(gpu: &Gpu, tables: &MatchTables, verdicts: &[Verdict], binding_max: u64) -> Result<Self, GpuError> {
        for (what, bytes) in [
            ("the partition table is", size_of_val(tables.partitions)),
            ("the columns are", size_of_val(tables.steps)),
            ("the rules are", size_of_val(verdicts)),
            ("the list memberships are", size_of_val(tables.set_tests)),
            ("the lists' intervals are", size_of_val(tables.intervals)),
        ] {
            if bytes as u64 > binding_max {
                return Err(GpuError::TooLarge { what, bytes: bytes as u64, limit: binding_max });
            }
        }
        let extents = plan(tables, binding_max)?;
        let unknown = GpuError::Tables("a term belongs to a rule that does not exist");
        let returned = if verdicts.is_empty() { Vec::new() } else { returned_lanes(tables, verdicts.len()).ok_or(unknown)? };
        let mut tenants = tables.partitions.to_vec();
        tenants.iter_mut().take(1).for_each(|common| common.segments = 0);
        gpu.guard(|| {
            let mut pages = Vec::with_capacity(extents.len());
            for extent in extents {
                let groups: Vec<ResidentGroup> = extent
                    .groups
                    .clone()
                    .map(|group| ResidentGroup::new(tables, group, returned.get(group).copied().unwrap_or(0)))
                    .collect();
                let terms = if verdicts.is_empty() { 0..0 } else { extent.groups.start * LANES..extent.groups.end * LANES };
                let tail = |tail: &u32| tables.tails.get((tail & !AT_EDGES) as usize).copied();
                let tails: Option<Vec<Tail>> = tables.tail_refs[extent.tails.clone()].iter().map(tail).collect();
                let tails = tails.ok_or(GpuError::Tables("a tail is missing"))?;
                pages.push(Page {
                    segments: upload(gpu, "segments", &tables.segments[extent.segments.clone()])?,
                    nodes: upload(gpu, "nodes", &tables.nodes[extent.nodes.clone()])?,
                    node_children: upload(gpu, "node_children", &tables.node_children[extent.nodes.clone()])?,
                    groups: upload(gpu, "groups", &groups)?,
                    leaf_slots: upload(gpu, "leaf_slots", &tables.leaf_slots[extent.slots.clone()])?,
                    tails: upload(gpu, "tails", &tails)?,
                    term_rules: upload(gpu, "term_rules", &tables.term_rules[terms])?,
                    extent,
                });
            }
            let mut resident = Self {
                columns: tables.columns,
                partition_count: tables.partitions.len(),
                pages,
                partitions: upload(gpu, "partitions", tables.partitions)?,
                tenants: upload(gpu, "tenants", &tenants)?,
                steps: upload(gpu, "steps", tables.steps)?,
                set_tests: upload(gpu, "set_tests", tables.set_tests)?,
                intervals: upload(gpu, "intervals", tables.intervals)?,
                verdicts: upload(gpu, "verdicts", verdicts)?,
                bytes: 0,
            };
            let common =
                [&resident.partitions, &resident.tenants, &resident.steps, &resident.set_tests, &resident.intervals, &resident.verdicts];
            let paged = resident.pages.iter().flat_map(|page| {
                [&page.segments, &page.nodes, &page.node_children, &page.groups, &page.leaf_slots, &page.tails, &page.term_rules]
                    .into_iter()
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
