//! Breadth-first search over all states, so that the first violation found has a shortest trace.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use super::step::Step;
use super::world::World;

/// How much there was to explore.
pub(super) struct Found {
    states: usize,
    steps: usize,
    at_rest: usize,
}

/// Visits every state that can be reached from `start`.
///
/// # Panics
///
/// Panics with the steps that lead there where a promise is broken.
pub(super) fn explore(start: World) -> Found {
    let start = Rc::new(start);
    let mut states = vec![Rc::clone(&start)];
    let mut known = HashMap::from([(start, 0_u32)]);
    let mut origin: Vec<Option<(u32, Step)>> = vec![None];
    // For each state, those that lead to it without the adversary's help.
    let mut before: Vec<Vec<u32>> = vec![Vec::new()];
    let mut at_rest = Vec::new();
    let mut steps = 0;

    let mut next = 0;
    while next < states.len() {
        let state = Rc::clone(&states[next]);
        let number = u32::try_from(next).unwrap();
        let mut rests = true;
        for step in state.steps() {
            steps += 1;
            rests &= !step.is_inevitable();
            let mut world = (*state).clone();
            if let Err(broken) = world.take(step).and_then(|()| world.check()) {
                panic!("{broken}\n{}{step:?}\n{world:?}", trace(&origin, number));
            }
            let world = Rc::new(world);
            let reached = *known.entry(Rc::clone(&world)).or_insert_with(|| {
                states.push(world);
                origin.push(Some((number, step)));
                before.push(Vec::new());
                u32::try_from(states.len() - 1).unwrap()
            });
            if step.is_inevitable() {
                before[reached as usize].push(number);
            }
        }
        if rests {
            if let Err(broken) = state.check_at_rest() {
                panic!("{broken}\n{}{state:?}", trace(&origin, number));
            }
            at_rest.push(number);
        }
        next += 1;
    }

    // There is always an end: whatever has happened, what happens by itself leads to rest.
    let mut ends = vec![false; states.len()];
    let mut open = at_rest.clone();
    while let Some(number) = open.pop() {
        if !std::mem::replace(&mut ends[number as usize], true) {
            open.extend(&before[number as usize]);
        }
    }
    if let Some(endless) = ends.iter().position(|ends| !ends) {
        let number = u32::try_from(endless).unwrap();
        panic!(
            "there is no end\n{}{:#?}",
            trace(&origin, number),
            states[endless]
        );
    }

    Found {
        states: states.len(),
        steps,
        at_rest: at_rest.len(),
    }
}

fn trace(origin: &[Option<(u32, Step)>], mut number: u32) -> String {
    let mut steps = Vec::new();
    while let Some((before, step)) = origin[number as usize] {
        steps.push(format!("{step:?}\n"));
        number = before;
    }
    steps.reverse();
    steps.concat()
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            states,
            steps,
            at_rest,
        } = self;
        write!(f, "{states} states, {steps} steps, {at_rest} at rest")
    }
}
