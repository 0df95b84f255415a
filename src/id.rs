//! Checked identifiers: a `u32` newtype for each thing that is counted, so that one cannot be used for another.

macro_rules! identifiers {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub struct $name(pub u32);

        impl $name {
            /// The identifier of position `index`.
            ///
            /// # Panics
            /// When `index` does not fit in 32 bits. Every collection that is indexed this way has a lower limit of its own.
            #[must_use]
            pub fn new(index: usize) -> Self {
                Self(u32::try_from(index).expect("an identifier fits in 32 bits"))
            }

            /// The position as an index into a slice.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

identifiers! {
    /// A field of the schema: its position in [`crate::event::Schema::fields`].
    FieldId
    /// A rule: its position in the order of the sources.
    RuleId
    /// A tenant named by at least one rule: its position in the artifact's list of tenants.
    TenantId
    /// A node of an [`crate::expr::Expr`]: its position in the arena.
    NodeId
}
