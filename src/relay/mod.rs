//! The relay: carries commands to agents and outcomes to portals, and can neither read nor forge either.
