//! What one idle agent costs.

fn main() {}
