//! Enumerates every interleaving of a handover and checks the promises in every reachable state.
//!
//! The model is the two machines of up to three processes, the channels between them (in order,
//! through the codec), the shell's obligations reduced to what they mean, and an adversary with a
//! budget: triggers, stops and dropped askers; SIGKILLs, hangs, failures and garbage at any
//! instant. Armed timers may run out at any time.

mod message;
mod perform;
mod process;
mod promises;
mod search;
mod step;
mod world;

use search::explore;
use world::{Budget, World};

/// Explores from a serving first generation and prints how much there was.
fn all_promises_hold(name: &str, probation: bool, budget: Budget) {
    let found = explore(World::new(probation, budget));
    println!("{name}: {found}");
}

#[test]
fn two_handovers_two_stops() {
    for probation in [false, true] {
        let budget = Budget {
            triggers: 2,
            stops: 2,
            ..Budget::NONE
        };
        all_promises_hold("two handovers, two stops", probation, budget);
    }
}

#[test]
fn handover_with_stops_and_a_fault() {
    for probation in [false, true] {
        let budget = Budget {
            triggers: 1,
            stops: 2,
            faults: 1,
            drops: 1,
            ..Budget::NONE
        };
        all_promises_hold("one handover, two stops, a fault", probation, budget);
    }
}

#[test]
fn two_handovers_with_a_death() {
    for probation in [false, true] {
        let budget = Budget {
            triggers: 2,
            kills: 1,
            drops: 1,
            ..Budget::NONE
        };
        all_promises_hold("two handovers, a death", probation, budget);
    }
}

#[test]
fn two_handovers_with_a_fault() {
    for probation in [false, true] {
        let budget = Budget {
            triggers: 2,
            faults: 1,
            ..Budget::NONE
        };
        all_promises_hold("two handovers, a fault", probation, budget);
    }
}

#[test]
fn handover_with_everything() {
    for probation in [false, true] {
        let budget = Budget {
            triggers: 1,
            stops: 1,
            kills: 2,
            faults: 1,
            ..Budget::NONE
        };
        all_promises_hold(
            "one handover, a stop, two deaths, a fault",
            probation,
            budget,
        );
    }
}

/// Everything at once, as far as memory and patience go.
#[test]
#[ignore = "two million states: seconds in release, minutes in debug"]
fn a_stronger_adversary() {
    for probation in [false, true] {
        for budget in [
            Budget {
                triggers: 2,
                stops: 1,
                kills: 1,
                faults: 1,
                drops: 0,
            },
            Budget {
                triggers: 1,
                stops: 2,
                kills: 2,
                faults: 2,
                drops: 1,
            },
        ] {
            all_promises_hold("a stronger adversary", probation, budget);
        }
    }
}
