//! The registry in Redis.
