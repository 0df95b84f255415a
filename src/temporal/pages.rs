//! A list in pages that a copy of it shares until they are written to: copying a list of millions takes no longer than copying the addresses of its pages.

use std::sync::Arc;

/// Items in a page.
const PAGE: usize = 64;

/// A list that grows.
#[derive(Clone, Debug)]
pub struct Pages<T> {
    pages: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }
}

impl<T: Clone> Pages<T> {
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// # Panics
    /// When there is none at `at`, as for slices.
    #[must_use]
    pub fn get(&self, at: usize) -> &T {
        &self.pages[at / PAGE][at % PAGE]
    }

    /// The item at `at`, to be changed. A page that a copy shares is copied first.
    ///
    /// # Panics
    /// When there is none at `at`, as for slices.
    pub fn get_mut(&mut self, at: usize) -> &mut T {
        &mut Arc::make_mut(&mut self.pages[at / PAGE])[at % PAGE]
    }

    pub fn push(&mut self, item: T) {
        if self.len.is_multiple_of(PAGE) {
            self.pages.push(Arc::new(Vec::with_capacity(PAGE)));
        }
        if let Some(last) = self.pages.last_mut() {
            Arc::make_mut(last).push(item);
            self.len += 1;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter())
    }

    /// The pages, each with `PAGE` items but the last.
    #[must_use]
    pub fn pages(&self) -> &[Arc<Vec<T>>] {
        &self.pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_it_had() {
        let mut list = Pages::default();
        (0..200).for_each(|item| list.push(item));
        let copy = list.clone();
        *list.get_mut(70) = 1000;
        list.push(200);
        assert_eq!((copy.len(), *copy.get(70), *list.get(70), list.len()), (200, 70, 1000, 201));
        assert!(copy.iter().copied().eq(0..200));
        let shared = list.pages().iter().zip(copy.pages()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, 2, "of four pages two were written to");
    }
}
