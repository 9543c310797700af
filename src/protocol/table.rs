//! The failure table of the transaction: row by row, column by column.

use super::incumbent::{Action, Deadline, Event, Timer};
use super::{
    Abort, Capabilities, Cause, EVENTS, Failed, Failure, Incumbent, MIGRATION, Offer, Outcome,
    Refusal, Sockets, Stage, Successor, ToIncumbent, ToSuccessor, Versions, successor,
};

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    BeforeReady,
    ReadyToCommit,
    CommitToServing,
    Probation,
    Settled,
}

const ALWAYS: [When; 5] = [
    When::BeforeReady,
    When::ReadyToCommit,
    When::CommitToServing,
    When::Probation,
    When::Settled,
];

const PID: i32 = 7;

fn incumbent(when: When) -> Incumbent {
    let ready = ToIncumbent::Ready {
        claimed: vec!["http".to_owned()],
    };
    let mut incumbent = Incumbent::new();
    incumbent.on(Event::Released);
    incumbent.on(Event::Trigger);
    incumbent.on(Event::Spawned { pid: 1 });
    incumbent.on(Event::Received(&ToIncumbent::Accepted {
        version: Versions::OURS.max,
        capabilities: Capabilities::ours(),
        pid: PID,
    }));
    let rest = [
        Event::Received(&ready),
        Event::Parked,
        Event::Received(&ToIncumbent::Serving {}),
        Event::Received(&ToIncumbent::Settled {}),
    ];
    let come = ALWAYS.iter().position(|column| *column == when).unwrap();
    for event in rest.into_iter().take(come) {
        incumbent.on(event);
    }
    incumbent
}

/// What is done at once to lose the successor and to serve on, and what once it has ended.
fn loses_it(when: When, outcome: Outcome) -> (Vec<Action>, Vec<Action>) {
    let (at_once, once_ended) = match when {
        When::BeforeReady => (vec![Action::StopTimer(Timer::Ready)], vec![]),
        When::ReadyToCommit => (vec![Action::Unpark], vec![]),
        When::CommitToServing => (vec![Action::StopTimer(Timer::Commit)], vec![Action::Unpark]),
        When::Probation => (
            vec![Action::StopTimer(Timer::Probation), Action::ReopenGates],
            vec![Action::Unpark],
        ),
        When::Settled => unreachable!("it is never lost once settled"),
    };
    (
        [at_once, vec![Action::EndSuccessor]].concat(),
        [once_ended, vec![Action::Report(outcome)]].concat(),
    )
}

fn failed(stage: Stage, cause: Cause) -> Outcome {
    Outcome::Failed(Failure {
        stage,
        component: None,
        cause,
        ended: Some("signal 9".to_owned()),
    })
}

fn stage(when: When) -> Stage {
    match when {
        When::BeforeReady => Stage::Init,
        When::ReadyToCommit => Stage::Park,
        When::CommitToServing => Stage::Commit,
        When::Probation | When::Settled => Stage::Probation,
    }
}

fn assert_loses_it(when: When, event: Event<'_>, outcome: Outcome) {
    let mut incumbent = incumbent(when);
    let (at_once, once_ended) = loses_it(when, outcome);
    assert_eq!(incumbent.on(event.clone()), at_once, "{when:?}: {event:?}");
    let refused = vec![Action::Refuse(Refusal::InProgress)];
    assert_eq!(incumbent.on(Event::Trigger), refused, "{when:?}: {event:?}");
    assert_eq!(incumbent.on(ended()), once_ended, "{when:?}: {event:?}");
    assert_eq!(incumbent.on(Event::Trigger), [Action::Spawn]);
}

fn ended() -> Event<'static> {
    Event::SuccessorEnded {
        how: "signal 9".to_owned(),
    }
}

#[test]
fn successor_gone() {
    let gone = || Event::SuccessorGone {
        how: "gone".to_owned(),
    };
    for when in &ALWAYS[..4] {
        let outcome = failed(stage(*when), Cause::Gone("gone".to_owned()));
        assert_loses_it(*when, gone(), outcome);
    }
    assert_eq!(incumbent(When::Settled).on(gone()), []);
}

#[test]
fn successor_sends_garbage() {
    let garbage = || Event::Garbage {
        reason: "?".to_owned(),
    };
    for when in &ALWAYS[..3] {
        let outcome = failed(stage(*when), Cause::Garbage("?".to_owned()));
        assert_loses_it(*when, garbage(), outcome);
    }
    assert_eq!(incumbent(When::Probation).on(garbage()), []);
    assert_eq!(incumbent(When::Settled).on(garbage()), []);
}

#[test]
fn successor_says_that_it_failed() {
    let said = ToIncumbent::Failed(Failed::new(Stage::Ready, Some("cache".to_owned()), &"cold"));
    for when in &ALWAYS[..4] {
        let stage = match when {
            When::Probation => Stage::Probation,
            _ => Stage::Ready,
        };
        let outcome = Outcome::Failed(Failure {
            stage,
            component: Some("cache".to_owned()),
            cause: Cause::Reported("cold".to_owned()),
            ended: Some("signal 9".to_owned()),
        });
        assert_loses_it(*when, Event::Received(&said), outcome);
    }
    assert_eq!(incumbent(When::Settled).on(Event::Received(&said)), []);
}

#[test]
fn successor_says_stopping() {
    let stopping = Event::Received(&ToIncumbent::Stopping {});
    for when in [When::BeforeReady, When::ReadyToCommit] {
        let outcome = failed(stage(when), Cause::Stopped);
        assert_loses_it(when, stopping.clone(), outcome);
    }
    for (when, timer) in [
        (When::CommitToServing, Timer::Commit),
        (When::Probation, Timer::Probation),
    ] {
        assert_eq!(
            incumbent(when).on(stopping.clone()),
            [
                Action::StopTimer(timer),
                Action::Report(Outcome::Aborted(Abort::SuccessorStopped)),
                Action::BeginStop,
            ]
        );
    }
    // It was told to stop before it heard of the drain.
    assert_eq!(
        incumbent(When::Settled).on(stopping),
        [Action::ShortenDeadline(Deadline::Stop)]
    );
}

#[test]
fn time_is_up() {
    for (when, timer) in [
        (When::BeforeReady, Timer::Ready),
        (When::CommitToServing, Timer::Commit),
    ] {
        let outcome = failed(stage(when), Cause::TimedOut);
        assert_loses_it(when, Event::Elapsed(timer), outcome);
    }
    assert_eq!(
        incumbent(When::Probation).on(Event::Elapsed(Timer::Probation)),
        [
            Action::BeginDrain,
            Action::Send(ToSuccessor::Draining {}),
            Action::Report(Outcome::Committed { pid: PID }),
        ]
    );
    for when in ALWAYS {
        for timer in [Timer::Ready, Timer::Commit, Timer::Probation] {
            let due = matches!(
                (when, timer),
                (When::BeforeReady, Timer::Ready)
                    | (When::CommitToServing, Timer::Commit)
                    | (When::Probation, Timer::Probation)
            );
            if !due {
                assert_eq!(incumbent(when).on(Event::Elapsed(timer)), []);
            }
        }
    }
}

#[test]
fn stop_at_the_incumbent() {
    for when in [When::BeforeReady, When::ReadyToCommit] {
        let mut incumbent = incumbent(when);
        let stopped = Outcome::Aborted(Abort::Stopped);
        assert_eq!(incumbent.on(Event::Stop), loses_it(when, stopped.clone()).0);
        let refused = [Action::Refuse(Refusal::Stopping)];
        assert_eq!(incumbent.on(Event::Trigger), refused);
        let stops = [Action::Report(stopped), Action::BeginStop];
        assert_eq!(incumbent.on(ended()), stops);
    }

    let stop_both = [
        Action::Send(ToSuccessor::Stop {}),
        Action::BeginDrain,
        Action::ShortenDeadline(Deadline::Stop),
        Action::Report(Outcome::Aborted(Abort::Stopped)),
    ];
    let mut answered = incumbent(When::CommitToServing);
    assert_eq!(answered.on(Event::Stop), []);
    let actions = answered.on(Event::Received(&ToIncumbent::Serving {}));
    assert_eq!(actions[0], Action::StopTimer(Timer::Commit));
    assert_eq!(actions[1..], stop_both);
    assert_eq!(answered.on(Event::Stop), [Action::AbortDrain]);

    let mut unanswered = incumbent(When::CommitToServing);
    unanswered.on(Event::Stop);
    let actions = unanswered.on(Event::Elapsed(Timer::Commit));
    assert_eq!(actions.last(), Some(&Action::EndSuccessor));
    let report = Action::Report(failed(Stage::Commit, Cause::TimedOut));
    assert_eq!(unanswered.on(ended()), [report, Action::BeginStop]);

    let actions = incumbent(When::Probation).on(Event::Stop);
    assert_eq!(actions[0], Action::StopTimer(Timer::Probation));
    assert_eq!(actions[1..], stop_both);

    let mut settled = incumbent(When::Settled);
    let shorter = [Action::ShortenDeadline(Deadline::Stop)];
    assert_eq!(settled.on(Event::Stop), shorter);
    assert_eq!(settled.on(Event::Stop), [Action::AbortDrain]);
    assert_eq!(settled.on(Event::Stop), []);
}

#[test]
fn only_a_second_stop_received_by_this_process_aborts() {
    let mut incumbent = Incumbent::new();
    assert_eq!(incumbent.on(Event::StopRelayed), [Action::BeginStop]);
    assert_eq!(incumbent.on(Event::Stop), []);
    assert_eq!(incumbent.on(Event::StopRelayed), []);
    assert_eq!(incumbent.on(Event::Stop), [Action::AbortDrain]);
}

#[test]
fn second_stop_waits_for_nobody() {
    for when in &ALWAYS[..3] {
        let mut incumbent = incumbent(*when);
        incumbent.on(Event::Stop);
        let actions = incumbent.on(Event::Stop);
        assert!(actions.contains(&Action::KillSuccessor), "{when:?}");
        let ends = [Action::BeginStop, Action::AbortDrain];
        assert!(actions.ends_with(&ends), "{when:?}");
    }
}

#[test]
fn another_trigger_at_the_incumbent() {
    for when in &ALWAYS[..3] {
        let refused = [Action::Refuse(Refusal::InProgress)];
        assert_eq!(incumbent(*when).on(Event::Trigger), refused);
    }
    assert_eq!(
        incumbent(When::Probation).on(Event::Trigger),
        [
            Action::Send(ToSuccessor::HandOver {}),
            Action::Refuse(Refusal::PassedOn { pid: PID }),
        ]
    );
    assert_eq!(
        incumbent(When::Settled).on(Event::Trigger),
        [Action::Refuse(Refusal::Superseded { pid: PID })]
    );
}

#[test]
fn snapshot_fails() {
    let event = Event::ParkFailed {
        reason: "slow".to_owned(),
    };
    let outcome = failed(Stage::Park, Cause::NotParked("slow".to_owned()));
    assert_loses_it(When::ReadyToCommit, event, outcome);
}

#[test]
fn asker_is_dropped_or_it_is_called_off() {
    for why in [Abort::AskerGone, Abort::CalledOff] {
        for when in &ALWAYS[..2] {
            assert_loses_it(*when, Event::CallOff(why), Outcome::Aborted(why));
        }
        for when in &ALWAYS[2..] {
            assert_eq!(incumbent(*when).on(Event::CallOff(why)), []);
        }
    }
}

#[test]
fn successor_breaks_the_sequence() {
    let early = ToIncumbent::Serving {};
    let outcome = failed(
        Stage::Init,
        Cause::Garbage("unexpected `serving`".to_owned()),
    );
    assert_loses_it(When::BeforeReady, Event::Received(&early), outcome);

    let mut incumbent = Incumbent::new();
    incumbent.on(Event::Trigger);
    incumbent.on(Event::Spawned { pid: 1 });
    let actions = incumbent.on(Event::Received(&ToIncumbent::Accepted {
        version: 999,
        capabilities: Capabilities::default(),
        pid: PID,
    }));
    assert_eq!(actions.last(), Some(&Action::EndSuccessor));
    let actions = incumbent.on(ended());
    assert!(
        matches!(&actions[..], [Action::Report(Outcome::Failed(failure))]
        if failure.stage == Stage::Negotiate)
    );
}

#[test]
fn unknown_messages_are_ignored() {
    for when in ALWAYS {
        let mut incumbent = incumbent(when);
        let before = incumbent.clone();
        assert_eq!(incumbent.on(Event::Received(&ToIncumbent::Unknown)), []);
        assert_eq!(incumbent, before);

        let mut successor = successor(when);
        let before = successor.clone();
        let unknown = successor::Event::Received(&ToSuccessor::Unknown);
        assert_eq!(successor.on(unknown), []);
        assert_eq!(successor, before);
    }
}

fn offer(sockets: u32) -> ToSuccessor {
    ToSuccessor::Offer(Offer {
        versions: Versions::OURS,
        capabilities: Capabilities::ours(),
        generation: 2,
        pid: 1,
        process_group: None,
        sockets,
        mask: Vec::new(),
        drain_timeout_ms: None,
        kill_grace_ms: None,
        probation_ms: 1000,
        older: Vec::new(),
        descriptors: Vec::new(),
    })
}

fn successor(when: When) -> Successor {
    use successor::Event;

    let mut successor = Successor::offered(PID, true);
    successor.on(Event::Received(&offer(0)));
    let rest = [
        Event::Ready {
            claimed: vec!["http".to_owned()],
        },
        Event::Received(&ToSuccessor::Commit {}),
        Event::Elapsed(successor::Timer::Probation),
        Event::Received(&ToSuccessor::Draining {}),
    ];
    let come = match when {
        When::BeforeReady => 0,
        // It cannot tell what the incumbent does between Ready and Commit.
        When::ReadyToCommit | When::CommitToServing => 1,
        When::Probation => 2,
        When::Settled => 4,
    };
    for event in rest.into_iter().take(come) {
        successor.on(event);
    }
    successor
}

/// What nobody can ask for is not told.
#[test]
fn a_generation_that_nobody_asks_does_not_hear_events() {
    use successor::{Action, Event};

    for hears in [true, false] {
        let mut successor = Successor::offered(PID, hears);
        let actions = successor.on(Event::Received(&offer(0)));
        let Some(Action::Send(ToIncumbent::Accepted { capabilities, .. })) = actions.first() else {
            panic!("{actions:?}");
        };
        assert_eq!(capabilities.has(EVENTS), hears);
        assert!(capabilities.has(MIGRATION));
    }
}

/// An incumbent sends the rest once it hears that some have arrived; after the last it has no rest.
#[test]
fn sockets_are_answered_for_as_long_as_others_wait() {
    use successor::{Action, Event};

    let described = r#"{"endpoint":"127.0.0.1:80","kind":"tcp"}"#;
    let one = ToSuccessor::Sockets(Sockets {
        entries: vec![serde_json::from_str(described).expect("a description")],
        descriptors: 1,
    });
    let mut adopting = Successor::offered(PID, true);
    adopting.on(Event::Received(&offer(2)));
    let taken = Action::Send(ToIncumbent::Taken { descriptors: 1 });
    assert_eq!(
        adopting.on(Event::Received(&one)),
        std::slice::from_ref(&taken)
    );
    assert_eq!(adopting.on(Event::Received(&one)), [Action::RunMain]);
    // One that was opened later comes alone.
    assert_eq!(adopting.on(Event::Received(&one)), [taken]);
}

#[test]
fn incumbent_dies() {
    use successor::{Action, Event};

    let gone = Event::PredecessorGone;
    let takes_over = vec![
        Action::BecomeOwner,
        Action::RestoreStderr,
        Action::JoinProcessGroup,
    ];
    let serves = vec![
        Action::OpenGates,
        Action::WritePidFile,
        Action::ResolveReady(Ok(())),
        Action::ApplyOptions,
    ];
    let alone = vec![
        Action::CloseUnclaimed,
        Action::PassOn(super::incumbent::Event::Released),
    ];

    let mut early = successor(When::BeforeReady);
    assert_eq!(early.on(gone.clone()), takes_over);
    let ready = Event::Ready {
        claimed: Vec::new(),
    };
    assert_eq!(early.on(ready), [serves.clone(), alone.clone()].concat());

    let mut incomplete = Successor::offered(PID, true);
    incomplete.on(Event::Received(&offer(2)));
    assert_eq!(
        incomplete.on(gone.clone()),
        [takes_over.clone(), vec![Action::RunMain]].concat()
    );

    assert_eq!(
        successor(When::ReadyToCommit).on(gone.clone()),
        [takes_over.clone(), serves, alone.clone()].concat()
    );
    assert_eq!(
        successor(When::Probation).on(gone.clone()),
        [
            vec![
                Action::StopTimer(successor::Timer::Probation),
                Action::WritePidFile,
            ],
            takes_over,
            alone.clone()
        ]
        .concat()
    );
    assert_eq!(successor(When::Settled).on(gone), alone);
}

#[test]
fn successor_fails_or_stops() {
    use successor::{Action, Event, NotServing};

    let failed = Failed::new(Stage::Init, None, &"no");
    for when in &ALWAYS[..2] {
        assert_eq!(
            successor(*when).on(Event::Failed(failed.clone())),
            [
                Action::Send(ToIncumbent::Failed(failed.clone())),
                Action::ResolveReady(Err(NotServing::Failed("no".to_owned()))),
                Action::EndNow,
            ]
        );
        assert_eq!(
            successor(*when).on(Event::Stop),
            [
                Action::Send(ToIncumbent::Stopping {}),
                Action::ResolveReady(Err(NotServing::Stopped)),
                Action::EndNow,
            ]
        );
    }
    let stop_timer = Action::StopTimer(successor::Timer::Probation);
    assert_eq!(
        successor(When::Probation).on(Event::Failed(failed.clone())),
        [
            stop_timer.clone(),
            Action::Send(ToIncumbent::Failed(failed.clone())),
            Action::BeginStop,
        ]
    );
    assert_eq!(
        successor(When::Probation).on(Event::Stop),
        [
            stop_timer,
            Action::Send(ToIncumbent::Stopping {}),
            Action::BeginStop,
        ]
    );
    assert_eq!(successor(When::Settled).on(Event::Failed(failed)), []);
    assert_eq!(
        successor(When::Settled).on(Event::Stop),
        [Action::PassOn(super::incumbent::Event::Stop)]
    );
    assert_eq!(
        successor(When::Settled).on(Event::Received(&ToSuccessor::Stop {})),
        [Action::PassOn(super::incumbent::Event::StopRelayed)]
    );
}

#[test]
fn successor_hears_garbage() {
    use successor::{Action, Event};

    let garbage = || Event::Garbage {
        reason: "?".to_owned(),
    };
    for when in &ALWAYS[..2] {
        let actions = successor(*when).on(garbage());
        assert_eq!(actions.last(), Some(&Action::EndNow), "{when:?}");
    }
    assert_eq!(successor(When::Probation).on(garbage()), []);
    assert_eq!(successor(When::Settled).on(garbage()), []);
}

#[test]
fn no_common_version_fails_at_negotiation() {
    use successor::{Action, Event};

    let ToSuccessor::Offer(mut alien) = offer(0) else {
        unreachable!("an offer is an offer");
    };
    alien.versions = Versions { min: 77, max: 78 };
    let mut successor = Successor::offered(PID, true);
    let actions = successor.on(Event::Received(&ToSuccessor::Offer(alien)));
    let Some(Action::Send(ToIncumbent::Failed(failed))) = actions.first() else {
        panic!("{actions:?}");
    };
    assert_eq!(failed.stage, Stage::Negotiate);
    assert!(failed.error.contains("77 to 78"), "{}", failed.error);
    assert_eq!(actions.last(), Some(&Action::EndNow));
}

#[test]
fn trigger_during_the_probation_settles_first() {
    use successor::{Action, Event};

    for trigger in [Event::Trigger, Event::Received(&ToSuccessor::HandOver {})] {
        let mut successor = successor(When::Probation);
        assert_eq!(
            successor.on(trigger),
            [
                Action::StopTimer(successor::Timer::Probation),
                Action::WritePidFile,
                Action::RestoreStderr,
                Action::Send(ToIncumbent::Settled {}),
                Action::WatchPredecessor,
            ]
        );
        assert!(!successor.is_settled());
        let actions = successor.on(Event::Received(&ToSuccessor::Draining {}));
        let trigger = Action::PassOn(super::incumbent::Event::Trigger);
        assert_eq!(actions.last(), Some(&trigger));
        assert!(successor.is_settled());
    }
}
