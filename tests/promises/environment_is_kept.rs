//! What a service was started with is what its successors are started with.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use handover_tests::load::Request;
use handover_tests::{Exit, Identity, Process, Program};
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::support::Fixture;
use crate::support::kernel::streams;

/// Arguments, variables and directory reach the third generation as the first one has got them,
/// whether they are text or not, and whatever way led to the program.
#[tokio::test]
async fn arguments_and_variables_are_kept() {
    let no_text = OsString::from_vec(b"no \xff\xfe text \n=".to_vec());
    // How the program is called, from its own directory or through `PATH`.
    for way in ["service", "./service", "sub/../service", "/"] {
        let fixture = Fixture::new();
        fs::create_dir(fixture.path("sub")).expect("a directory");
        let directory = fixture.path("");
        let path = std::env::var_os("PATH").expect("there is one");
        let called = match way {
            "/" => fixture.path("service"),
            way => PathBuf::from(way),
        };
        let program = fixture
            .with_environment(Program::new(&called))
            .args([
                OsStr::new(""),
                OsStr::new("--flag"),
                &no_text,
                OsStr::new("HANDOVER_CHANNEL=1:2"),
            ])
            .env("NO_TEXT", &no_text)
            .env("EMPTY", "")
            .env("PATH", join(&directory, &path))
            .current_dir(&directory);
        let running = fixture.start_as(program).await;
        let mut incumbent = running.identity().await;
        let first = Start::of(incumbent);
        assert_eq!(first.arguments[0], called, "{way}");
        assert_eq!(first.arguments[3], no_text);
        for _ in 0..2 {
            incumbent = running.hand_over_and_end(incumbent).await;
            assert_eq!(Start::of(incumbent), first, "{way}");
        }
    }
}

fn join(directory: &Path, path: &OsStr) -> OsString {
    let mut joined = directory.as_os_str().to_owned();
    joined.push(":");
    joined.push(path);
    joined
}

/// The program is looked up anew each time: by a link that leads to another one, by a file that was
/// replaced; and one that is missing for a while is no reason to stop.
#[tokio::test]
async fn the_program_of_the_moment_is_run() {
    let fixture = Fixture::new();
    let other = fixture.path("other");
    let running = fixture.start().await;
    let mut incumbent = running.identity().await;
    let linked = program(incumbent);

    fixture.deploy_copy();
    fs::rename(fixture.path("service"), &other).expect("a file that can be renamed");
    fixture.deploy(&other);
    incumbent = running.hand_over_and_end(incumbent).await;
    assert_ne!(program(incumbent), linked, "the link was followed anew");
    assert_eq!(program(incumbent), inode(&other));

    // The link becomes a file, and the file is replaced: twice, since the second time it is the
    // successor of a file that has no name any more.
    for _ in 0..2 {
        fixture.deploy_copy();
        incumbent = running.hand_over_and_end(incumbent).await;
        assert_eq!(program(incumbent), inode(&fixture.path("service")));
    }

    fixture.remove_program();
    let answer = running.try_hand_over().await;
    assert!(
        answer.starts_with("error: ") && answer.contains("could not execute"),
        "{answer}"
    );
    assert_eq!(running.identity().await, incumbent);
    fixture.deploy_copy();
    incumbent = running.hand_over_and_end(incumbent).await;
    assert_eq!(program(incumbent), inode(&fixture.path("service")));

    // A link beside it that leads back to it, as package managers make them.
    fs::rename(fixture.path("service"), &other).expect("a file that can be renamed");
    symlink("other", fixture.path("service")).expect("a link");
    incumbent = running.hand_over_and_end(incumbent).await;
    assert_eq!(program(incumbent), inode(&other));
}

/// The directory of the start is kept as long as it is there, and found again when it is there
/// again.
#[tokio::test]
async fn the_directory_may_vanish_and_come_back() {
    let fixture = Fixture::new();
    let directory = fixture.path("work");
    fs::create_dir(&directory).expect("a directory");
    let directory = directory.canonicalize().expect("it is there");
    let program = fixture.program().current_dir(&directory);
    let running = fixture.start_as(program).await;
    let mut incumbent = running.identity().await;
    incumbent = running.hand_over_and_end(incumbent).await;
    assert_eq!(working_directory(incumbent), directory);

    // Twice: once from a generation that has started in it, once from one that has not.
    fs::remove_dir(&directory).expect("it is empty");
    for _ in 0..2 {
        incumbent = running.hand_over_and_end(incumbent).await;
    }

    fs::create_dir(&directory).expect("a directory");
    for _ in 0..2 {
        incumbent = running.hand_over_and_end(incumbent).await;
        assert_eq!(working_directory(incumbent), directory);
    }
}

/// A directory that was reached by a link, as a shell tells by `PWD`, is reached by the link again,
/// and so is the program in it: a deploy that moves the link is followed.
#[tokio::test]
async fn a_directory_behind_a_link_is_entered_anew() {
    let fixture = Fixture::new();
    fixture.deploy_copy();
    let releases = ["one", "two"].map(|name| fixture.path(name));
    for release in &releases {
        fs::create_dir(release).expect("a directory");
        fs::copy(fixture.path("service"), release.join("service")).expect("a file");
    }
    let link = fixture.path("current");
    symlink("one", &link).expect("a link");
    let started = fixture
        .with_environment(Program::new("./service"))
        .current_dir(&link)
        .env("PWD", &link);
    let running = fixture.start_as(started).await;
    let mut incumbent = running.identity().await;
    assert_eq!(program(incumbent), inode(&releases[0].join("service")));

    symlink("two", fixture.path("next")).expect("a link");
    fs::rename(fixture.path("next"), &link).expect("it can be moved");
    for _ in 0..2 {
        incumbent = running.hand_over_and_end(incumbent).await;
        assert_eq!(program(incumbent), inode(&releases[1].join("service")));
        let directory = releases[1].canonicalize().expect("it is there");
        assert_eq!(working_directory(incumbent), directory);
    }
}

/// The three standard streams of the third generation are those of the first, with the place in
/// each file where the one before has left off.
#[tokio::test]
async fn standard_streams_are_kept() {
    let fixture = Fixture::new();
    fs::write(fixture.path("in"), "what is typed\n").expect("a file");
    let [input, output, errors] = ["in", "out", "err"].map(|name| fixture.path(name));
    let redirect = format!(
        r#"exec "$0" <{} >{} 2>{}"#,
        input.display(),
        output.display(),
        errors.display()
    );
    let running = fixture.start_as(fixture.shell(&redirect)).await;
    let mut incumbent = running.identity().await;
    let mut everybody = vec![incumbent];
    for _ in 0..2 {
        incumbent = running.hand_over_and_end(incumbent).await;
        everybody.push(incumbent);
        assert_eq!(
            streams(incumbent),
            [&input, &output, &errors].map(|path| path.to_owned())
        );
    }
    running.service.stop().await;
    let read = |path: &Path| fs::read_to_string(path).expect("text");
    let (said, logged) = (read(&output), read(&errors));
    for identity in everybody {
        // Had each its own place in the file, one would have written over the other.
        let serves = format!("{identity} serves\n");
        assert!(said.contains(&serves), "no `{serves}` in:\n{said}");
        let Identity { pid, generation } = identity;
        let ended = format!("ended generation={generation} pid={pid}");
        assert!(logged.contains(&ended), "no `{ended}` in:\n{logged}");
    }
}

/// A child that a generation starts while it initialises has a pipe as its standard error. What it
/// says arrives, and does not kill it, also when that generation and those around it have gone.
#[tokio::test]
async fn a_child_that_was_started_early_keeps_its_standard_error() {
    let fixture = Fixture::new();
    let [first, second, go] = ["first", "second", "go"].map(|name| fixture.path(name));
    mkfifoat(CWD, &go, Mode::RUSR | Mode::WUSR).expect("a FIFO");
    let script = format!(
        "mkdir {first} 2>/dev/null || {{ mkdir {second} 2>/dev/null && (
            for word in once twice; do until read line <{go}; do :; done; echo said $word >&2; done
        ) >/dev/null & }}",
        first = first.display(),
        second = second.display(),
        go = go.display(),
    );
    let fixture = fixture.env("FIXTURE_SCRIPT", &script);
    let running = fixture.start().await;
    let mut incumbent = running.identity().await;
    incumbent = running.hand_over_and_end(incumbent).await;
    for words in ["said once", "said twice"] {
        incumbent = running.hand_over_and_end(incumbent).await;
        tokio::fs::write(&go, "\n").await.expect("somebody reads");
        running.service.output().find(words).await;
    }
}

/// A file and a memfd are the same ones for everybody, and their content too.
#[tokio::test]
async fn descriptors_are_lent_and_taken() {
    let fixture = Fixture::new().env("FIXTURE_TAKE", "file memory");
    let running = fixture.start().await;
    let file = fixture.path("data");
    fs::write(&file, "in a file").expect("a file");
    let lend = |name: &str, what: String| Request::post(format!("/lend?{name}"), what);
    let lent = running.ask(&lend("file", file.display().to_string())).await;
    assert_eq!(lent, "lent");
    assert_eq!(
        running.ask(&lend("memory", "in memory".to_owned())).await,
        "lent"
    );
    let (device, inode) = inode(&file);
    fs::remove_file(&file).expect("it is there");
    let memory = running.ask(&Request::get("/take?memory")).await;
    assert!(memory.ends_with(" in memory"), "{memory}");
    let mut incumbent = running.identity().await;
    for _ in 0..3 {
        incumbent = running.hand_over_and_end(incumbent).await;
        let taken = running.ask(&Request::get("/take?file")).await;
        assert_eq!(taken, format!("{device}:{inode} in a file"));
        assert_eq!(running.ask(&Request::get("/take?memory")).await, memory);
    }
    // What is lent under a name that is taken replaces it.
    assert_eq!(
        running.ask(&lend("memory", "more".to_owned())).await,
        "lent"
    );
    running.hand_over_and_end(incumbent).await;
    let taken = running.ask(&Request::get("/take?memory")).await;
    assert!(taken.ends_with(" more"), "{taken}");
}

/// The pid file is never missing, never empty, and never names anybody but the incumbent, or the
/// successor once it serves.
#[tokio::test]
async fn the_pid_file_names_who_serves() {
    let fixture = Fixture::new();
    let path = fixture.path("app.pid");
    let fixture = fixture.env("FIXTURE_PID_FILE", &path);
    let running = fixture.start().await;
    let mut incumbent = running.identity().await;
    written(&path, incumbent).await;
    let watch = Watch::start(path.clone());
    let mut everybody = BTreeSet::from([incumbent.pid]);
    for round in 0..10 {
        fixture.set_faults(["init:fail", "ready:kill", "active:fail"][round % 3]);
        let before = incumbent;
        match round % 3 {
            2 => incumbent = running.hand_over_and_end(before).await,
            _ => {
                let answer = running.try_hand_over().await;
                assert!(answer.starts_with("error: "), "{answer}");
                assert_eq!(read(&path), Some(before.pid), "after a failed handover");
            }
        }
        everybody.insert(incumbent.pid);
        fixture.set_faults("init:wait");
        let handover = running.try_hand_over();
        let look = async {
            let waiting = fixture.waiting().await;
            written(&path, incumbent).await;
            fixture.set_faults("");
            waiting.go();
        };
        tokio::join!(handover, look);
        let next = incumbent.generation + 1;
        incumbent = running.service.generation(&running.target, next).await;
        written(&path, incumbent).await;
        everybody.insert(incumbent.pid);
    }
    let seen = watch.stop();
    assert!(
        seen.is_subset(&everybody),
        "{seen:?} are not all of {everybody:?}"
    );

    // Somebody else has written over it, and the incumbent still serves after a failed handover.
    fs::write(&path, "1\n").expect("a file");
    fixture.set_faults("init:fail");
    running.try_hand_over().await;
    assert_eq!(read(&path), Some(incumbent.pid));

    let exits = running.service.stop().await;
    assert_eq!(exits, [Exit::Code(0)]);
    let left: Vec<_> = fs::read_dir(fixture.path(""))
        .expect("a directory")
        .collect();
    let left = left.iter().flatten().map(fs::DirEntry::file_name);
    let pid_files: Vec<_> = left
        .filter(|name| name.as_bytes().starts_with(b"app.pid"))
        .collect();
    assert!(pid_files.is_empty(), "left behind: {pid_files:?}");
}

/// Waits until the file says so: it is written when the predecessor has let go.
async fn written(path: &Path, identity: Identity) {
    handover_tests::eventually(format_args!("the pid file of {identity}"), || {
        (read(path) == Some(identity.pid)).then_some(())
    })
    .await;
}

fn read(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    text.strip_suffix('\n')?.parse().ok()
}

/// Reads the pid file all the time.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<BTreeSet<u32>>,
}

impl Watch {
    fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                seen.insert(read(&path).expect("a whole pid file"));
                thread::yield_now();
            }
            seen
        });
        Self { stop, thread }
    }

    fn stop(self) -> BTreeSet<u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the file was whole all the time")
    }
}

/// How a generation was started.
#[derive(Debug, PartialEq, Eq)]
struct Start {
    arguments: Vec<OsString>,
    /// Their order has no meaning.
    variables: BTreeSet<OsString>,
    directory: PathBuf,
}

impl Start {
    fn of(identity: Identity) -> Self {
        let process = Process::open(identity.pid).expect("it serves");
        let variables = process.environment().expect("it serves").into_iter();
        let ours = |variable: &OsString| variable.as_bytes().starts_with(b"HANDOVER_CHANNEL=");
        Self {
            arguments: process.arguments().expect("it serves"),
            variables: variables.filter(|variable| !ours(variable)).collect(),
            directory: working_directory(identity),
        }
    }
}

fn working_directory(identity: Identity) -> PathBuf {
    fs::read_link(format!("/proc/{}/cwd", identity.pid)).expect("it serves")
}

/// The file that a generation runs.
fn program(identity: Identity) -> (u64, u64) {
    inode(Path::new(&format!("/proc/{}/exe", identity.pid)))
}

fn inode(path: &Path) -> (u64, u64) {
    let found = fs::metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    (found.dev(), found.ino())
}
