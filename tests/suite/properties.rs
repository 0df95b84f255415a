//! What must hold whatever the rules.
