//! What the person on call sees: each fault is made on a system that runs, and everything that shows it shows it: `/readyz`,
//! `status`, the alert, the dashboard, the runbook. The table in docs/operations.md is made of what is looked for here.

mod faults;
mod rows;
mod system;
mod table;
