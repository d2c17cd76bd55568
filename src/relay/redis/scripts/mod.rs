//! The atomic steps: Lua in files of their own, each with its KEYS and ARGV at its head.

use std::sync::LazyLock;

use redis::Script;

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!($file)));)*
    };
}

scripts! {
    ACCEPT = "accept.lua";
    TAKE_OVER = "take_over.lua";
    TAKE_BACK = "take_back.lua";
    NOTE = "note.lua";
    CONCLUDE = "conclude.lua";
    REPLACE = "replace.lua";
}
