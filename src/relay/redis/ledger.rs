//! The ledger in Redis.
