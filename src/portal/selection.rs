//! Which agent is asked first: rendezvous hashing, so that the commands of one account meet at one agent, and its
//! accounts spread over the others when it is away.

use std::cmp::Reverse;

use crate::protocol::command::Subject;
use crate::protocol::ids::AgentId;
use crate::protocol::jose::sha256;

/// Orders `agents` for this account: by SHA-256 over the account (folded), a zero byte and the agent's 16 bytes, greatest
/// first.
#[must_use]
pub fn in_order_for(account: &Subject, mut agents: Vec<AgentId>) -> Vec<AgentId> {
    let account = account.folded().into_string();
    agents.sort_by_cached_key(|agent| {
        let mut bytes = account.clone().into_bytes();
        bytes.push(0);
        bytes.extend_from_slice(agent.as_bytes());
        Reverse(sha256(&bytes))
    });
    agents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(n: u8) -> Vec<AgentId> {
        (0..n).map(|i| AgentId::from_bytes([i; 16])).collect()
    }

    fn user(i: u32) -> Subject {
        Subject::upn(&format!("user{i}@corp.example")).unwrap()
    }

    #[test]
    fn one_account_has_one_order_however_it_is_written_and_listed() {
        let mut backwards = agents(5);
        backwards.reverse();
        let upper = Subject::upn("USER1@CORP.example").unwrap();
        assert_eq!(in_order_for(&user(1), agents(5)), in_order_for(&upper, backwards));
    }

    #[test]
    fn accounts_spread_and_only_those_of_the_missing_agent_move() {
        let mut first = [0; 4];
        for i in 0..400 {
            let order = in_order_for(&user(i), agents(4));
            first[usize::from(order[0].as_bytes()[0])] += 1;
            let without_last = in_order_for(&user(i), agents(3));
            let expected: Vec<AgentId> = order.into_iter().filter(|a| a.as_bytes()[0] != 3).collect();
            assert_eq!(without_last, expected);
        }
        assert!(first.iter().all(|n| *n > 60), "{first:?}");
    }
}
