//! What windows may hold of a key and of a tenant, and what is unknown where that was too little.
//!
//! A key whose rows need more room than they may have drops the older half of them, and bears a mark from then on: the time of the newest row that went. A frame that may
//! reach back to the mark is unknown, and its window NULL; every other answer is that of all rows. A row before the mark is not held, as every frame that has it
//! is unknown. The mark goes once no frame of a row to come reaches it, where the rows themselves would have been forgotten. Where a frame has no end, a key keeps one row,
//! and stays unknown.
//!
//! Where the keys of a tenant hold too much together, the key at hand does the same, and new keys are turned away. They may come again, and nobody knows which they were: so
//! every new key of the tenant bears the mark of the newest row that was turned away.

use super::keys::Texts;
use crate::event::Type;
use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// What windows may hold, for each partitioning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the rows of one key, with their texts.
    pub key_bytes: usize,
    /// Bytes of the keys of one tenant and of their rows; texts are held once for all keys, and not counted. Without tenants there is no such limit.
    pub tenant_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { key_bytes: 16 << 20, tenant_bytes: 4 << 30 }
    }
}

/// How often limits were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Times that a key dropped rows because it held too much.
    pub over_key: u64,
    /// Times that a key dropped rows, or was turned away, because its tenant held too much.
    pub over_tenant: u64,
}

impl Troubles {
    pub const fn add(&mut self, other: Self) {
        self.over_key += other.over_key;
        self.over_tenant += other.over_tenant;
    }
}

/// Whose a key is: whether the tenant is NULL, and its words.
pub type Tenant = [u64; 3];

/// What is known of a tenant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    pub bytes: usize,
    /// The time of the newest row that was turned away.
    pub turned_away: Option<i64>,
}

/// A tenant of which rows were turned away, as it is saved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SavedTenant {
    /// Where the tenant is a text, instead of its words.
    text: Option<String>,
    words: Tenant,
    turned_away: i64,
}

/// The marks of keys, and what tenants hold.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// The type of the field of tenants, with which keys begin then.
    tenant: Option<Type>,
    marks: HashMap<u32, i64, FixedState>,
    accounts: HashMap<Tenant, Account, FixedState>,
    /// Keys that hold nothing because they were turned away.
    pub refused: HashSet<u32, FixedState>,
    pub troubles: Troubles,
}

impl Bounds {
    /// Bounds of keys that begin with a tenant of this type, if there are tenants.
    #[must_use]
    pub fn new(tenant: Option<Type>) -> Self {
        Self { tenant, ..Self::default() }
    }

    /// Bounds of such keys that hold nothing yet.
    #[must_use]
    pub fn empty(&self) -> Self {
        Self::new(self.tenant)
    }

    /// The mark of a key that dropped rows.
    #[must_use]
    pub fn mark(&self, slot: u32) -> Option<i64> {
        if self.marks.is_empty() { None } else { self.marks.get(&slot).copied() }
    }

    /// Has a key bear a mark, or none.
    pub fn set_mark(&mut self, slot: u32, mark: Option<i64>) {
        match mark {
            Some(mark) => _ = self.marks.insert(slot, mark),
            None => _ = self.marks.remove(&slot),
        }
    }

    fn tenant_of(&self, key: &[u64]) -> Option<Tenant> {
        self.tenant.map(|ty| [key[0] & 1, key[1], if super::words::width(ty) == 2 { key[2] } else { 0 }])
    }

    /// What is known of the tenant of a key; `None`: there are no tenants.
    #[must_use]
    pub fn account(&self, key: &[u64]) -> Option<Account> {
        self.tenant_of(key).map(|tenant| self.accounts.get(&tenant).copied().unwrap_or_default())
    }

    /// Changes what is known of the tenant of a key. An account holds on to the text of its tenant, and is there as long as it says something.
    pub fn change_account(&mut self, key: &[u64], texts: &mut Texts, change: impl FnOnce(&mut Account)) {
        let Some(tenant) = self.tenant_of(key) else { return };
        let is_text = self.tenant == Some(Type::Text) && tenant[0] == 0;
        let account = self.accounts.entry(tenant).or_insert_with(|| {
            if is_text {
                texts.refer_again(tenant[1] as u32);
            }
            Account::default()
        });
        change(account);
        if account.bytes == 0 && account.turned_away.is_none() {
            self.accounts.remove(&tenant);
            if is_text {
                texts.release(tenant[1] as u32);
            }
        }
    }

    /// The tenants of which rows were turned away.
    #[must_use]
    pub fn saved(&self, texts: &Texts) -> Vec<SavedTenant> {
        let saved = |(tenant, account): (&Tenant, &Account)| {
            let turned_away = account.turned_away?;
            let is_text = self.tenant == Some(Type::Text) && tenant[0] == 0;
            let words = if is_text { [0; 3] } else { *tenant };
            Some(SavedTenant { text: is_text.then(|| texts.text(tenant[1] as u32).to_owned()), words, turned_away })
        };
        let mut all: Vec<SavedTenant> = self.accounts.iter().filter_map(saved).collect();
        all.sort_unstable();
        all
    }

    /// Takes in what was saved.
    ///
    /// # Errors
    /// Tenants of another type.
    pub fn restore(&mut self, saved: &[SavedTenant], texts: &mut Texts) -> Result<(), String> {
        for SavedTenant { text, words, turned_away } in saved {
            if text.is_some() != (self.tenant == Some(Type::Text) && words[0] == 0) {
                return Err("a tenant is of another type".to_owned());
            }
            let number = text.as_ref().map(|text| texts.refer(text));
            let key = number.map_or(*words, |number| [0, u64::from(number), 0]);
            self.change_account(&key, texts, |account| account.turned_away = Some(*turned_away));
            number.into_iter().for_each(|number| texts.release(number));
        }
        Ok(())
    }
}
