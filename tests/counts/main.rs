//! What a connection costs, in numbers that do not depend on the weather: allocations and system calls, compared with
//! Tokio's own accept loop.

mod tracer;

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
};

use nix::unistd::Pid;

use crate::tracer::Calls;

#[test]
fn a_connection_costs_at_most_one_more_allocation() {
    let plain = each(|connections| allocations("plain", connections));
    let ours = each(|connections| allocations("handover", connections));
    assert!(
        plain >= 1.0,
        "the task of a connection alone is an allocation, {plain} were counted"
    );
    assert!(
        ours <= plain + 1.0 + NOISE,
        "{ours} allocations for each connection, {plain} with the plain loop"
    );
}

/// The one more makes the accepted socket non-blocking.
#[test]
fn a_connection_costs_at_most_one_more_system_call() {
    let (plain, ours) = (calls_each("plain"), calls_each("handover"));
    let sum = |each: &[(String, f64)]| each.iter().map(|(_, each)| each).sum::<f64>();
    assert!(
        sum(&plain) >= 4.0,
        "accept4, recvfrom, sendto and close are four calls, {plain:?} were counted"
    );
    assert!(
        sum(&ours) <= sum(&plain) + 1.0 + NOISE,
        "calls for each connection: {ours:?}, with the plain loop {plain:?}"
    );
}

/// The calls that one connection adds, by name, without those that do not count.
fn calls_each(server: &str) -> Vec<(String, f64)> {
    let (few, many) = (calls(server, FEW), calls(server, MANY));
    let each = |number, count: u64| {
        let before = few.get(&number).copied().unwrap_or_default();
        (count as f64 - before as f64) / f64::from(MANY - FEW)
    };
    many.iter()
        .map(|(&number, &count)| (tracer::name(number), each(number, count)))
        .filter(|(name, each)| !UNCOUNTED.contains(&name.as_str()) && *each > NOISE)
        .collect()
}

/// What one connection adds: the difference of two runs has none of what is done once.
fn each(count: impl Fn(u32) -> u64) -> f64 {
    let (few, many) = (count(FEW), count(MANY));
    (many as f64 - few as f64) / f64::from(MANY - FEW)
}

fn allocations(server: &str, connections: u32) -> u64 {
    let mut server = Server::start(server, connections);
    server
        .ask_often(connections)
        .expect("every connection is answered");
    server
        .hear("allocations")
        .parse()
        .expect("the server says a number")
}

fn calls(server: &str, connections: u32) -> Calls {
    let server = Server::start(server, connections);
    let pid = Pid::from_raw(
        server
            .child
            .id()
            .try_into()
            .expect("it is a process number"),
    );
    thread::scope(|scope| {
        let client = scope.spawn(|| ask_often(&server.address, connections));
        let calls = tracer::count_until_end(pid).expect("a child can be traced");
        client
            .join()
            .expect("the client does not panic")
            .expect("every connection is answered");
        calls
    })
}

/// The fixture, which ends by itself when it has served as many connections as it was told.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    fn start(server: &str, connections: u32) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_accept"))
            .args([server, &connections.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the fixture was built with this test");
        let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut server = Self {
            child,
            output,
            address: String::new(),
        };
        server.address = server.hear("serving");
        server
    }

    fn ask_often(&self, connections: u32) -> io::Result<()> {
        ask_often(&self.address, connections)
    }

    fn hear(&mut self, word: &str) -> String {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .expect("the server says something");
        let rest = line
            .strip_prefix(word)
            .unwrap_or_else(|| panic!("the server says {line:?} instead of `{word}`"));
        rest.trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, unless the test has failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Connects, asks one byte, and reads the answer and the end, one connection after the other.
fn ask_often(address: &str, connections: u32) -> io::Result<()> {
    for _ in 0..connections {
        let mut connection = TcpStream::connect(address)?;
        connection.write_all(b"?")?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer)?;
        if answer != b"?" {
            return Err(io::Error::other(format!("{answer:?} is no answer")));
        }
    }
    Ok(())
}

const FEW: u32 = 100;
const MANY: u32 = 1100;

/// A wake-up more or less, of a thousand.
const NOISE: f64 = 0.05;

/// How often a server waits depends on how fast the events come, too, and `fcntl` is how the standard library and Tokio
/// check descriptors, in debug builds only.
const UNCOUNTED: [&str; 4] = ["epoll_wait", "epoll_pwait", "futex", "fcntl"];
