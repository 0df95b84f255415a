//! Room for the rows of many keys: blocks of rows in one run of memory, so that a key costs eight bytes beside its rows.

/// The place of rows that are not in memory.
const AWAY: u32 = u32::MAX;

/// The rows of one key: `len` rows in a block for the next power of two.
#[derive(Clone, Copy, Debug, Default)]
pub struct Block {
    /// Rows before it in the pool, or [`AWAY`].
    place: u32,
    len: u32,
}

impl Block {
    #[must_use]
    pub const fn rows(self) -> usize {
        self.len as usize
    }

    /// Whether its rows are not in memory.
    #[must_use]
    pub const fn is_away(self) -> bool {
        self.place == AWAY
    }

    /// Rows that it has room for.
    #[must_use]
    pub const fn room(self) -> usize {
        if self.len == 0 { 0 } else { 1 << self.class() }
    }

    const fn class(self) -> usize {
        self.len.next_power_of_two().trailing_zeros() as usize
    }
}

/// Blocks of rows of `width` words.
#[derive(Clone, Debug)]
pub struct Pool {
    width: usize,
    words: Vec<u64>,
    /// Places of blocks that nobody uses, by size, and the rows that they have room for.
    free: Vec<Vec<u32>>,
    free_rows: usize,
}

impl Pool {
    #[must_use]
    pub const fn new(width: usize) -> Self {
        Self { width, words: Vec::new(), free: Vec::new(), free_rows: 0 }
    }

    /// Reserves addresses for so many bytes, so that nothing is copied as it grows: memory is taken when it is written to. Where there are not so many, it grows as others do.
    pub fn reserve(&mut self, bytes: usize) {
        let _ = self.words.try_reserve_exact(bytes / 8);
    }

    /// The words of the rows, one row after the other.
    #[must_use]
    pub fn rows(&self, block: Block) -> &[u64] {
        &self.words[block.place as usize * self.width..][..block.len as usize * self.width]
    }

    /// Takes in rows of a key that has none yet.
    pub fn store(&mut self, rows: &[u64]) -> Block {
        let len = (rows.len() / self.width) as u32;
        let block = Block { place: self.take(Block { place: 0, len }.class()), len };
        self.words[block.place as usize * self.width..][..rows.len()].copy_from_slice(rows);
        block
    }

    /// Puts a row before row `at`.
    pub fn insert(&mut self, block: &mut Block, at: usize, row: &[u64]) {
        if block.len == 0 || block.len.is_power_of_two() {
            let place = self.take(Block { len: block.len + 1, ..*block }.class());
            self.copy(*block, place, 0);
            self.release(*block);
            block.place = place;
        }
        let (start, width) = (block.place as usize * self.width, self.width);
        let (from, end) = (start + at * width, start + block.len as usize * width);
        self.words.copy_within(from..end, from + width);
        self.words[from..from + width].copy_from_slice(row);
        block.len += 1;
    }

    /// Forgets the first `rows` rows, of more.
    pub fn drop_first(&mut self, block: &mut Block, rows: usize) {
        let left = Block { len: block.len - rows as u32, ..*block };
        let place = if left.class() == block.class() { block.place } else { self.take(left.class()) };
        self.copy(*block, place, rows);
        if place != block.place {
            self.release(*block);
        }
        *block = Block { place, ..left };
    }

    /// Gives the room of a block back.
    pub fn release(&mut self, block: Block) {
        if block.len > 0 {
            self.free[block.class()].push(block.place);
            self.free_rows += 1 << block.class();
        }
    }

    /// Gives the room of a block back, whose rows are somewhere else from now on.
    pub fn send_away(&mut self, block: &mut Block) {
        self.release(*block);
        block.place = AWAY;
    }

    /// Moves the blocks together, so that no room between them is unused.
    pub fn compact(&mut self, blocks: &mut [Block]) {
        let held = |block: &Block| block.len > 0 && !block.is_away();
        let mut order: Vec<u32> = (0..).zip(&*blocks).filter(|(_, block)| held(block)).map(|(slot, _)| slot).collect();
        order.sort_unstable_by_key(|slot| blocks[*slot as usize].place);
        let mut end = 0;
        for slot in order {
            let block = &mut blocks[slot as usize];
            self.copy(*block, end, 0);
            block.place = end;
            end += 1 << block.class();
        }
        self.words.truncate(end as usize * self.width);
        self.free.iter_mut().for_each(Vec::clear);
        self.free_rows = 0;
    }

    /// Copies the rows of `block` from its row `from` on.
    fn copy(&mut self, block: Block, place: u32, from: usize) {
        let start = block.place as usize * self.width;
        self.words.copy_within(start + from * self.width..start + block.len as usize * self.width, place as usize * self.width);
    }

    fn take(&mut self, class: usize) -> u32 {
        if self.free.len() <= class {
            self.free.resize(class + 1, Vec::new());
        }
        if let Some(place) = self.free[class].pop() {
            self.free_rows -= 1 << class;
            return place;
        }
        let place = self.words.len() / self.width;
        let more = self.width << class;
        super::make_room(&mut self.words, more);
        self.words.resize(self.words.len() + more, 0);
        u32::try_from(place)
            .ok()
            .filter(|place| *place != AWAY)
            .expect("a run of memory for 4 thousand million rows is more than machines have")
    }

    /// Bytes that are in use, and those that are free between them.
    #[must_use]
    pub const fn in_use(&self) -> (usize, usize) {
        let free = self.free_rows * self.width * 8;
        (self.words.len() * 8 - free, free)
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.words.len() * 8 + self.free.iter().map(|places| places.capacity() * 4).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_kept_in_place_and_room_is_used_again() {
        let mut pool = Pool::new(2);
        let mut blocks = [Block::default(); 3];
        let mut expected: [Vec<[u64; 2]>; 3] = Default::default();
        for step in 0..200_u64 {
            let of = (step * 7 % 3) as usize;
            let at = (step * 31) as usize % (expected[of].len() + 1);
            pool.insert(&mut blocks[of], at, &[step, step + 1000]);
            expected[of].insert(at, [step, step + 1000]);
            if step % 13 == 0 && expected[of].len() > 4 {
                pool.drop_first(&mut blocks[of], 4);
                expected[of].drain(..4);
            }
            for (block, rows) in blocks.iter().zip(&expected) {
                assert_eq!(pool.rows(*block), rows.concat(), "step {step}");
            }
        }
        let bytes = pool.bytes();
        for (block, rows) in blocks.iter_mut().zip(&expected) {
            pool.release(*block);
            *block = Block::default();
            rows.iter().enumerate().for_each(|(at, row)| pool.insert(block, at, row));
            assert_eq!(pool.rows(*block), rows.concat());
        }
        assert!(pool.words.len() * 8 <= bytes, "released room is taken again");
    }

    #[test]
    fn blocks_that_are_moved_together_keep_their_rows() {
        let mut pool = Pool::new(2);
        let rows = |slot: usize| (0..slot as u64 % 9 * 2).map(|word| word + slot as u64 * 100).collect::<Vec<u64>>();
        let mut blocks: Vec<Block> =
            (0..100).map(|slot| if rows(slot).is_empty() { Block::default() } else { pool.store(&rows(slot)) }).collect();
        let all = pool.in_use();
        assert_eq!((all.0 + all.1, all.1), (pool.words.len() * 8, 0));
        for slot in (0..100).filter(|slot| slot % 3 > 0 && !rows(*slot).is_empty()) {
            pool.send_away(&mut blocks[slot]);
        }
        let left = pool.in_use();
        assert_eq!(left.0 + left.1, all.0);
        pool.compact(&mut blocks);
        assert_eq!((pool.in_use(), pool.words.len() * 8), ((left.0, 0), left.0));
        for (slot, block) in blocks.iter_mut().enumerate() {
            assert_eq!(block.rows() * 2, rows(slot).len());
            if block.is_away() {
                *block = pool.store(&rows(slot));
            }
        }
        assert!((0..100).all(|slot| pool.rows(blocks[slot]) == rows(slot)));
        assert_eq!(pool.in_use(), all);
    }
}
