//! The portal's side: invites agents, trusts them, and asks them.
