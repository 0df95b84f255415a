//! A group within its limits: see [`limits`](super::super::limits).

use super::{CHUNK, Group, Retention, Rows, Words, key_texts, key_width, row_texts};

/// Bytes of a key beside its words and rows, about.
const KEY_BYTES: usize = 16;

impl Group {
    /// Whether rows that the frames of this one would need may be missing from all of them: then it is not held itself.
    pub(super) fn is_unknown(&mut self, slot: u32, time: i64) -> bool {
        if self.state.blocks[slot as usize].rows() == 0 && self.is_turned_away(slot, time) {
            self.state.bounds.refused.insert(slot);
            return true;
        }
        self.state.bounds.mark(slot).is_some_and(|mark| time < mark || self.retention == Retention::Never)
    }

    /// Whether a key without rows is not to have any.
    fn is_turned_away(&mut self, slot: u32, time: i64) -> bool {
        let needs = self.bytes_of_key(1);
        let state = &mut self.state;
        let key = state.keys.key(slot);
        let Some(account) = state.bounds.account(key) else { return false };
        if account.bytes + needs > self.limits.tenant_bytes {
            let newest = account.turned_away.map_or(time, |newest| newest.max(time));
            state.bounds.change_account(key, &mut state.texts, |account| account.turned_away = Some(newest));
            state.bounds.troubles.over_tenant += 1;
            return true;
        }
        let mark = account.turned_away.filter(|mark| !self.is_past(*mark, time, 0));
        let state = &mut self.state;
        state.bounds.set_mark(slot, mark);
        let is_before = mark.is_some_and(|mark| time < mark || self.retention == Retention::Never);
        if !is_before {
            state.bounds.refused.remove(&slot);
        }
        is_before
    }

    /// Whether no frame of a row to come reaches a mark, of a key that holds so many rows.
    fn is_past(&self, mark: i64, newest: i64, held: usize) -> bool {
        match self.retention {
            Retention::Age(age) => mark < newest.min(self.state.clock).saturating_sub(age),
            Retention::Count(count) => held >= count,
            Retention::Never => false,
        }
    }

    /// After row `at` of a key, of this time: the answers of windows whose frames reach its mark become NULL.
    pub(super) fn tell_unknown(&mut self, slot: u32, time: i64, at: usize, answers: &mut [Option<Words>]) {
        let Some(mark) = self.state.bounds.mark(slot) else { return };
        for (output, answer) in self.outputs.iter_mut().zip(answers) {
            if self.frames[self.aggregates[output.aggregate].frame].reaches(mark, time, at) {
                *answer = None;
                output.unknown += 1;
            }
        }
        let rows = self.rows_of(slot);
        let (held, newest) = (rows.count(), rows.time(rows.count() - 1));
        if self.is_past(mark, newest, held) {
            self.state.bounds.set_mark(slot, None);
        }
    }

    /// Has a key drop its older half where it, or its tenant, holds too much.
    pub(super) fn drop_what_is_too_much(&mut self, slot: u32) {
        let state = &self.state;
        let rows = self.rows_of(slot);
        let (held, room) = (rows.count(), state.blocks[slot as usize].room());
        let texts: usize = row_texts(&self.measures, rows.words, self.width).map(|text| state.texts.text(text).len()).sum();
        let over_key = room * self.width * 8 + texts > self.limits.key_bytes;
        let over_tenant = state.bounds.account(state.keys.key(slot)).is_some_and(|account| account.bytes > self.limits.tenant_bytes);
        let dropped = if self.retention == Retention::Never { held - 1 } else { held / 2 };
        if dropped == 0 || !over_key && !over_tenant {
            return;
        }
        let newest = rows.time(dropped - 1);
        self.drop_first(slot, dropped);
        let state = &mut self.state;
        state.cool(slot);
        state.bounds.set_mark(slot, Some(newest));
        let troubles = &mut state.bounds.troubles;
        *(if over_key { &mut troubles.over_key } else { &mut troubles.over_tenant }) += 1;
        self.change_room(slot, room, self.state.blocks[slot as usize].room());
    }

    /// Notes that a key has room for other many rows; a key without rows is none.
    pub(super) fn change_room(&mut self, slot: u32, from: usize, to: usize) {
        let (from, to) = (self.bytes_of_key(from), self.bytes_of_key(to));
        let state = &mut self.state;
        state.bounds.change_account(state.keys.key(slot), &mut state.texts, |account| account.bytes = account.bytes + to - from);
    }

    fn bytes_of_key(&self, room: usize) -> usize {
        if room == 0 { 0 } else { (key_width(&self.key_types) + room * self.width) * 8 + KEY_BYTES }
    }

    fn rows_of(&self, slot: u32) -> Rows<'_> {
        Rows { words: self.state.pool.rows(self.state.blocks[slot as usize]), width: self.width, texts: &self.state.texts }
    }

    /// Lets go of keys that were turned away, once there are many: they hold nothing.
    pub(super) fn let_go_of_those_turned_away(&mut self) {
        let state = &mut self.state;
        if state.bounds.refused.len() < (state.keys.living() / 8).max(8 * CHUNK) {
            return;
        }
        let mut gone: Vec<u32> = std::mem::take(&mut state.bounds.refused).into_iter().collect();
        gone.sort_unstable();
        for slot in &gone {
            state.bounds.set_mark(*slot, None);
            key_texts(&self.key_types, state.keys.key(*slot)).for_each(|text| state.texts.release(text));
        }
        state.keys.remove(&gone);
    }
}
