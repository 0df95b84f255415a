//! Who may do what: keys, roles, and whose things they are for.

use std::collections::HashMap;
use std::fmt::Write as _;

/// What all keys begin with.
pub const PREFIX: &str = "dcep_";

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Brings new versions of rules.
    Author,
    /// Puts versions in service and takes them out.
    Operator,
    /// Has events judged.
    Scorer,
    /// Sees what there is.
    Viewer,
}

/// Something that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Manage,
    Push,
    Operate,
    Score,
    View,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Admin, Self::Author, Self::Operator, Self::Scorer, Self::Viewer];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Author => "author",
            Self::Operator => "operator",
            Self::Scorer => "scorer",
            Self::Viewer => "viewer",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    #[must_use]
    pub const fn may(self, act: Act) -> bool {
        match act {
            Act::Manage => matches!(self, Self::Admin),
            Act::Push => matches!(self, Self::Admin | Self::Author),
            Act::Operate => matches!(self, Self::Admin | Self::Operator),
            Act::Score => matches!(self, Self::Admin | Self::Scorer),
            Act::View => !matches!(self, Self::Scorer),
        }
    }
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub id: String,
    /// Of the secret, which has 256 random bits: no slow hash is needed for that.
    pub hash: String,
    pub name: String,
    pub role: Role,
    /// `None`: of every tenant.
    pub tenant: Option<String>,
    /// Milliseconds since 1970.
    pub created: i64,
}

impl Key {
    /// A key and its secret, which is shown once and kept nowhere: `dcep_<id>_<secret>`.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(name: &str, role: Role, tenant: Option<&str>, now: i64) -> Result<(Self, String), String> {
        let mut random = [0_u8; 40];
        getrandom::fill(&mut random).map_err(|error| format!("the system gives no random bytes: {error}"))?;
        let hex = random.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let (id, secret) = hex.split_at(16);
        let tenant = tenant.map(str::to_owned);
        let key = Self { id: id.to_owned(), hash: hash(secret), name: name.to_owned(), role, tenant, created: now };
        let shown = format!("{PREFIX}{id}_{secret}");
        Ok((key, shown))
    }

    /// Whether the key is for things of this tenant.
    #[must_use]
    pub fn is_for(&self, tenant: &str) -> bool {
        self.tenant.as_deref().is_none_or(|own| own == tenant)
    }
}

fn hash(secret: &str) -> String {
    blake3::hash(secret.as_bytes()).to_hex().to_string()
}

/// The keys that there are, by their ids.
#[derive(Debug, Default)]
pub struct Keys(HashMap<String, Key>);

impl Keys {
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Self {
        Self(keys.into_iter().map(|key| (key.id.clone(), key)).collect())
    }

    /// The key that a request shows.
    #[must_use]
    pub fn find(&self, shown: &str) -> Option<&Key> {
        let (id, secret) = shown.strip_prefix(PREFIX)?.split_once('_')?;
        let key = self.0.get(id)?;
        // Hashes are compared in a time that does not depend on where they differ.
        (blake3::hash(secret.as_bytes()) == blake3::Hash::from_hex(&key.hash).ok()?).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_secret_alone() {
        let (key, shown) = Key::new("ci", Role::Author, Some("acme"), 7).unwrap();
        let (other, other_shown) = Key::new("ci", Role::Viewer, None, 8).unwrap();
        assert!(!format!("{key:?}").contains(shown.rsplit('_').next().unwrap()), "the secret is not kept");
        let keys = Keys::new(vec![key.clone(), other.clone()]);
        assert_eq!((keys.find(&shown), keys.find(&other_shown)), (Some(&key), Some(&other)));
        let forged = format!("dcep_{}_{}", key.id, other_shown.rsplit('_').next().unwrap());
        for wrong in [forged.as_str(), "", "dcep_", "dcep__", &shown[1..], &shown[..shown.len() - 1], &format!("{shown}0")] {
            assert_eq!(keys.find(wrong), None, "{wrong}");
        }
        assert!(key.is_for("acme") && !key.is_for("other") && other.is_for("other"));
    }

    #[test]
    fn roles_may_what_they_are_for() {
        let may = |role: Role| [Act::Manage, Act::Push, Act::Operate, Act::Score, Act::View].map(|act| role.may(act));
        assert_eq!(may(Role::Admin), [true; 5]);
        assert_eq!(may(Role::Author), [false, true, false, false, true]);
        assert_eq!(may(Role::Operator), [false, false, true, false, true]);
        assert_eq!(may(Role::Scorer), [false, false, false, true, false]);
        assert_eq!(may(Role::Viewer), [false, false, false, false, true]);
        assert!(Role::ALL.iter().all(|role| Role::parse(role.name()) == Some(*role)) && Role::parse("root").is_none());
    }
}
