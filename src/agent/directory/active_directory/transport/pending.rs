//! The requests of a connection that have no answer yet, and what each may be answered with.

use std::collections::HashMap;

use super::message::{
    BIND_REQUEST, BIND_RESPONSE, MODIFY_REQUEST, MODIFY_RESPONSE, Message, SEARCH_DONE, SEARCH_ENTRY, SEARCH_REFERENCE,
    SEARCH_REQUEST,
};
use super::violation::Violation;

/// So many references to other domains has a search: a forest has no more.
const MAX_REFERENCES: u32 = 256;
/// So many entries has a search, those that are left out among them: the users of the largest domains.
const MAX_ENTRIES: u32 = 1_000_000;
/// So many bytes have the answers to one search. The largest looks at 120 users with their access lists.
const MAX_SEARCH: usize = 8 * 1024 * 1024;

/// What is waited for, by its message id.
#[derive(Debug, Default)]
pub(super) struct Pending(HashMap<u32, Request>);

#[derive(Debug)]
enum Request {
    /// Of one answer, with this operation.
    Single { answer: u8 },
    /// Of a search.
    Search { size_limit: u32, entries: u32, references: u32, bytes: usize },
}

impl Pending {
    /// A request goes out.
    pub(super) fn ask(&mut self, request: &Message<'_>) -> Result<(), Violation> {
        let asked = match request.operation {
            BIND_REQUEST => Request::Single { answer: BIND_RESPONSE },
            MODIFY_REQUEST => Request::Single { answer: MODIFY_RESPONSE },
            SEARCH_REQUEST => {
                Request::Search { size_limit: request.size_limit()?, entries: 0, references: 0, bytes: 0 }
            }
            // Unbind and abandon have no answer.
            _ => return Ok(()),
        };
        self.0.insert(request.id, asked);
        Ok(())
    }

    /// An answer of so many bytes has come; whether it is for the library. Entries beyond those that were asked for are left
    /// out: Samba does not count as it is asked to.
    pub(super) fn answer(&mut self, answer: &Message<'_>, length: usize) -> Result<bool, Violation> {
        let not_asked = Violation::NotAsked(answer.id);
        let ended = match (self.0.get_mut(&answer.id).ok_or(not_asked)?, answer.operation) {
            (Request::Single { answer }, operation) if *answer == operation => true,
            (Request::Search { size_limit, entries, references, bytes }, operation) => {
                match operation {
                    SEARCH_ENTRY => *entries += 1,
                    SEARCH_REFERENCE => *references += 1,
                    SEARCH_DONE => {}
                    _ => return Err(not_asked),
                }
                if *entries > MAX_ENTRIES {
                    return Err(Violation::TooManyEntries(MAX_ENTRIES));
                }
                if operation == SEARCH_ENTRY && *entries > *size_limit {
                    return Ok(false);
                }
                *bytes = bytes.saturating_add(length);
                if *references > MAX_REFERENCES {
                    return Err(Violation::TooManyReferences(MAX_REFERENCES));
                }
                if *bytes > MAX_SEARCH {
                    return Err(Violation::TooMuch(MAX_SEARCH));
                }
                operation == SEARCH_DONE
            }
            _ => return Err(not_asked),
        };
        if ended {
            self.0.remove(&answer.id);
        }
        Ok(true)
    }
}
