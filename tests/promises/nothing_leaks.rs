//! Promise 8: nothing leaks, neither from one generation to the next nor into a child.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use handover_tests::load::Request;
use handover_tests::{Descriptor, Identity, Memory, Process, Program, eventually};
use tokio::time::timeout;

use crate::support::program::unprivileged;
use crate::support::{Fixture, Running};

/// A generation at the end of a long chain has what one at its start has: the same descriptors, no
/// higher numbers, the same threads, and no more memory.
#[tokio::test]
async fn a_thousand_handovers_leave_what_one_leaves() {
    let fixture = Fixture::new();
    let path = fixture.path("app.sock");
    let fixture = fixture
        .env("FIXTURE_STREAMS", format!("unix:{}", path.display()))
        .env("FIXTURE_DATAGRAMS", "dns=udp:127.0.0.1:0")
        .env("FIXTURE_TAKE", "data")
        .env("FIXTURE_PID_FILE", fixture_pid_file(&path))
        .env("FIXTURE_LOG", "warn");
    let running = fixture.start().await;
    let lent = running
        .ask(&Request::post("/lend?data", "lent by the first"))
        .await;
    assert_eq!(lent, "lent");
    let mut incumbent = running.identity().await;
    // The least that one has had: it may be seen while it still has the connection of a question.
    let mut least: Option<State> = None;
    for number in 1..=1000 {
        incumbent = running.hand_over_and_end(incumbent).await;
        let state = match &least {
            Some(least) if number > 10 => least.is_that_of(incumbent).await,
            _ => State::of(incumbent).await,
        };
        let better = least.as_ref().is_none_or(|least| state.is_less(least));
        if better {
            least = Some(state);
        }
    }
    assert_eq!(incumbent.generation, 1001);
    let taken = running.ask(&Request::get("/take?data")).await;
    assert!(taken.ends_with("lent by the first"), "{taken}");
    let processes = running.service.processes();
    assert_eq!(processes.len(), 1, "{processes:?}");
}

fn fixture_pid_file(beside: &std::path::Path) -> std::path::PathBuf {
    beside.with_extension("pid")
}

/// Every descriptor is closed when a child executes a program, whatever generation opened it and
/// though it does not serve yet; and a child gets the signal mask, the ignored signals and the
/// variables of a service that knows nothing of handovers.
#[tokio::test]
async fn a_child_inherits_nothing_of_ours() {
    a_child_inherits_nothing(|program| program).await;
}

#[tokio::test]
async fn a_child_of_an_unprivileged_service_inherits_nothing_of_ours() {
    a_child_inherits_nothing(|program| unprivileged(program, 65534)).await;
}

async fn a_child_inherits_nothing(start_as: fn(Program) -> Program) {
    let fixture = Fixture::new();
    fixture.open_to_everybody();
    let path = fixture.path("app.sock");
    let fixture = fixture
        .env(
            "FIXTURE_STREAMS",
            format!("unix:{} more=127.0.0.1:0", path.display()),
        )
        .env("FIXTURE_DATAGRAMS", "dns=udp:127.0.0.1:0")
        .env("FIXTURE_SCRIPT", CHILD);
    let running = fixture.start_as(start_as(fixture.program())).await;
    let lent = running.ask(&Request::post("/lend?data", "lent")).await;
    assert_eq!(lent, "lent");
    let mut incumbent = running.identity().await;
    let first = Seen::of_child(&running.shell(CHILD).await);
    assert_eq!(first.blocked, 0, "{first:?}");
    // What the tests themselves were started with goes down to everybody.
    let inherited = not_closed(incumbent);
    let masks = blocked(incumbent);
    assert_eq!(masks.len(), 1, "{masks:?}");
    let early = initialising(&running, 1).await;
    assert_eq!(
        early.without_standard_error(),
        first.without_standard_error()
    );

    for generation in 2..=3 {
        fixture.set_faults("init:wait");
        let answer = running.try_hand_over();
        let meanwhile = async {
            let waiting = fixture.waiting().await;
            let successor = Identity {
                generation,
                pid: waiting.pid(),
            };
            assert_eq!(not_closed(successor), inherited);
            assert_eq!(blocked(successor), masks);
            fixture.set_faults("");
            waiting.go();
            successor
        };
        let (answer, successor) = tokio::join!(answer, meanwhile);
        assert!(answer.starts_with("Successor {"), "{answer}");
        incumbent = running
            .service
            .generation(&running.target, generation)
            .await;
        assert_eq!(incumbent, successor);
        // By then it has the standard error of the service.
        let active = format!("active generation={generation} ");
        running.service.output().find(&active).await;

        let early = initialising(&running, generation).await;
        assert_eq!(
            early.without_standard_error(),
            first.without_standard_error()
        );
        let settled = Seen::of_child(&running.shell(CHILD).await);
        assert_eq!(settled, first);
        assert_eq!(not_closed(incumbent), inherited);
        assert_eq!(blocked(incumbent), masks);
    }
}

/// A service that a service starts is a first generation, though it inherits the variable that
/// names a channel; and the one that started it hands over as before.
#[tokio::test]
async fn a_grandchild_is_not_fooled_by_the_variable() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let incumbent = running.hand_over_and_end(running.identity().await).await;
    let output = fixture.path("grandchild");
    let program = fixture.path("service");
    for stdin in ["</dev/null", "<&-", ""] {
        // Its own standard input is the script: what is left of it when nothing is said.
        let pid = running
            .shell(&format!(
                "{} {stdin} >{} 2>&1 &\necho $!\nexit\n",
                program.display(),
                output.display()
            ))
            .await;
        let grandchild = Process::open(pid.trim().parse().expect("a pid")).expect("it runs");
        let environment = grandchild.environment().expect("it runs");
        let channel = environment.iter().any(|variable| {
            variable
                .as_encoded_bytes()
                .starts_with(b"HANDOVER_CHANNEL=")
        });
        assert!(channel, "it was to inherit the variable: {environment:?}");
        eventually("the grandchild as a first generation", || {
            let text = fs::read_to_string(&output).expect("its output");
            assert!(!text.contains("generation=2"), "{text}");
            text.contains("generation=1 serves").then_some(())
        })
        .await;
        grandchild.kill();
        grandchild.exited().await;
    }
    running.hand_over_and_end(incumbent).await;
}

/// What a process has.
#[derive(Debug)]
struct State {
    /// What each descriptor is, without the number of its inode.
    descriptors: Vec<String>,
    /// The highest number of one that the service has opened itself.
    highest: u32,
    threads: usize,
    memory: Memory,
}

impl State {
    /// That of a generation, once its predecessor has gone and nothing goes on any more.
    async fn of(identity: Identity) -> Self {
        let mut before = Self::now(identity);
        eventually("a state that lasts", || {
            let now = Self::now(identity);
            let same = now.descriptors == before.descriptors && now.threads == before.threads;
            before = now;
            same.then_some(())
        })
        .await;
        before
    }

    fn is_less(&self, than: &Self) -> bool {
        self.descriptors.len() < than.descriptors.len()
    }

    /// Waits until another generation has the same, or less, and returns what that has then.
    async fn is_that_of(&self, identity: Identity) -> Self {
        let no_more = eventually("the same descriptors and threads", || {
            let now = Self::now(identity);
            let no_more = now.descriptors == self.descriptors || now.is_less(self);
            (no_more && now.threads == self.threads).then_some(now)
        });
        let in_time = timeout(Duration::from_secs(15), no_more).await;
        let Ok(now) = in_time else {
            let now = Self::now(identity);
            panic!("{identity} has {now:#?}, not {self:#?}");
        };
        assert!(now.highest <= self.highest + SLACK, "{identity}: {now:#?}");
        // Not the proportional set size: that depends on who else runs the same program.
        let limit = self.memory.resident + self.memory.resident / 2;
        assert!(
            now.memory.resident < limit,
            "{identity} has {now:?}, not {self:?}"
        );
        now
    }

    fn now(identity: Identity) -> Self {
        let process = Process::open(identity.pid).expect("it serves");
        let descriptors = process.descriptors().expect("it serves");
        let ours = descriptors
            .iter()
            .filter(|descriptor| descriptor.close_on_exec);
        let highest = ours.map(|descriptor| descriptor.number).max();
        let mut kinds: Vec<_> = descriptors.iter().map(kind).collect();
        kinds.sort();
        Self {
            descriptors: kinds,
            highest: highest.expect("it has some"),
            threads: process.status().expect("it serves").threads,
            memory: process.memory().expect("it serves"),
        }
    }
}

/// What a child sees of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    descriptors: BTreeSet<String>,
    standard_error: String,
    blocked: u64,
    ignored: u64,
    variables: BTreeSet<String>,
}

impl Seen {
    fn of_child(text: &str) -> Self {
        let lines = |kind: &str| -> BTreeSet<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
            lines.map(str::to_owned).collect()
        };
        let mask = |name: &str| {
            let line = lines(name).pop_first();
            let mask = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
            mask.unwrap_or_else(|| panic!("no {name} in {text}"))
        };
        // Standard input and output are pipes for this one child.
        let (streams, others): (BTreeSet<_>, _) = lines("fd ")
            .into_iter()
            .filter(|line| !line.starts_with("0 ") && !line.starts_with("1 "))
            .filter(|line| !line.contains(" /proc/"))
            .partition(|line| line.starts_with("2 "));
        let mut variables = lines("env ");
        variables.retain(|variable| !variable.starts_with("HANDOVER_CHANNEL="));
        Self {
            descriptors: others,
            standard_error: streams.into_iter().next().unwrap_or_default(),
            blocked: mask("SigBlk:"),
            ignored: mask("SigIgn:"),
            variables,
        }
    }

    /// While a generation initialises, its standard error is a pipe to its predecessor.
    fn without_standard_error(&self) -> Self {
        Self {
            standard_error: String::new(),
            ..self.clone()
        }
    }
}

/// What a child saw that a generation has started while it initialised.
async fn initialising(running: &Running, generation: u32) -> Seen {
    let output = running.service.output();
    let prefix = format!("generation={generation} script: ");
    output.find(&format!("{prefix}end")).await;
    let lines: Vec<_> = output.lines();
    let said: Vec<_> = lines
        .iter()
        .filter_map(|line| line.text.strip_prefix(&prefix))
        .collect();
    Seen::of_child(&said.join("\n"))
}

/// The descriptors that a child of this process would inherit.
fn not_closed(identity: Identity) -> Vec<(u32, String)> {
    let process = Process::open(identity.pid).expect("it runs");
    let descriptors = process.descriptors().expect("it runs");
    descriptors
        .iter()
        .filter(|descriptor| !descriptor.close_on_exec)
        .map(|descriptor| (descriptor.number, kind(descriptor)))
        .collect()
}

/// The signals that the threads of this process block; many a library empties the mask of a child,
/// and many do not.
fn blocked(identity: Identity) -> BTreeSet<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", identity.pid)).expect("it runs");
    let mask = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("status")).ok()?;
        let mask = text.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
        Some(mask.trim().to_owned())
    };
    tasks.flatten().filter_map(mask).collect()
}

fn kind(descriptor: &Descriptor) -> String {
    let text = descriptor.target.display().to_string();
    match text.split_once(":[") {
        Some((kind, inode)) if !kind.starts_with("anon_inode") => {
            format!("{kind} {}", inode.len() / 64)
        }
        _ => text,
    }
}

/// How many numbers may be free below the highest, from what was open only for a moment.
const SLACK: u32 = 8;

const CHILD: &str = r#"
ls -l /proc/self/fd | sed -n 's/.* \([0-9]*\) -> /fd \1 /p'
grep Sig /proc/self/status
env -0 | tr '\n\0' ' \n' | sed 's/^/env /'
echo end
"#;
