//! Metrics are those of the service, not of a process: nobody who scrapes is refused, and counters go
//! on over generations.

use std::collections::BTreeMap;
use std::ops::Index;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use handover_tests::load::{Kind, Request, ask};
use handover_tests::{Load, Program, Signal, Target, within};

use crate::support::{Running, millis, signal};

#[tokio::test]
async fn a_scrape_is_answered_whatever_happens_and_counters_never_go_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("service");
    deploy(&program, Path::new(EXAMPLE));
    let service = Program::new(&program).arg("127.0.0.1:0").start();
    let service = service.expect("a program that can be started");
    let target = service.listening(1).await.swap_remove(0);
    service.generation(&target, 1).await;
    let running = Running { service, target };
    let first = running.identity().await;
    let load = Load::on(running.target.clone())
        .clients(Kind::New, 1)
        .clients(Kind::KeepAlive, 2)
        .pause(Kind::KeepAlive, millis(20)..=millis(200))
        .start();
    let scraper = Scraper::start(running.target.clone());

    let before = scrape(&running.target).await;
    assert_eq!(before["handover_generation"], 1.0);
    assert_eq!(before[r#"handover_phase{phase="serving"}"#], 1.0);
    assert_eq!(before[r#"handover_phase{phase="draining"}"#], 0.0);
    assert_eq!(before[COMMITTED], 0.0);
    assert!(!before.0.keys().any(|name| name.contains("stage_duration")));
    let counted = until(&running.target, |now| {
        now[&accepted()] > 0.0 && now[&open()] > 0.0
    })
    .await;

    // One that fails: the same generation says so.
    deploy(&program, Path::new("/bin/false"));
    signal(first, Signal::HUP);
    let failed = until(&running.target, |now| {
        now[FAILED] == 1.0 && now.has(&took("failed"))
    })
    .await;
    assert_eq!(failed["handover_generation"], 1.0);

    deploy(&program, Path::new(EXAMPLE));
    let mut incumbent = first;
    for number in 1..=3 {
        let successor = running.hand_over(incumbent).await;
        load.progress(1).await;
        // What is told in one moment is recorded one after the other.
        let committed = |now: &Metrics| {
            now[COMMITTED] == f64::from(number)
                && now[&took("committed")] > 0.0
                && STAGES.iter().all(|stage| now.has(stage))
        };
        let now = until(&running.target, committed).await;
        assert_eq!(now["handover_generation"], f64::from(successor.generation));
        assert_eq!(now[FAILED], 1.0, "what the first generation has counted");
        running.ended(incumbent.generation).await;
        incumbent = successor;
    }
    // Everybody has told, and everything that was sent was received.
    let after = until(&running.target, |now| {
        now["handover_draining_generations"] == 0.0
            && now[&migrated("sent")] > 0.0
            && now[&migrated("sent")] == now[&migrated("received")]
            && now.has("handover_drain_duration_seconds")
    })
    .await;
    assert_eq!(after["handover_draining_connections"], 0.0);
    assert!(after[&accepted()] > counted[&accepted()]);

    load.stop().await.assert_nothing_lost();
    let scrapes = scraper.stop().await;
    assert!(scrapes > 10, "{scrapes}");
    running.service.stop().await;
}

/// The labels have as many values as the service has endpoints, phases and so on, and no more.
#[tokio::test]
async fn no_label_grows_with_the_generations() {
    let program = Program::new(EXAMPLE).arg("127.0.0.1:0").start();
    let service = program.expect("a program that can be started");
    let target = service.listening(1).await.swap_remove(0);
    service.generation(&target, 1).await;
    let running = Running { service, target };
    let mut incumbent = running.identity().await;
    let names = |metrics: &Metrics| metrics.0.keys().cloned().collect::<Vec<_>>();
    let complete = |now: &Metrics| {
        now.has(COMMITTED)
            && now.has("handover_drain_duration_seconds")
            && now.has(&migrated("sent"))
            && now.has(&took("committed"))
            && STAGES.iter().all(|stage| now.has(stage))
    };
    let mut seen = Vec::new();
    for _ in 0..4 {
        let successor = running.hand_over(incumbent).await;
        running.ended(incumbent.generation).await;
        incumbent = successor;
        seen.push(names(&until(&running.target, complete).await));
    }
    assert_eq!(seen[0], seen[3]);
}

/// What is scraped: values by series, with their labels. One that is not there is no number.
#[derive(Debug, Default)]
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn has(&self, series: &str) -> bool {
        self.0.contains_key(series)
    }
}

impl Index<&str> for Metrics {
    type Output = f64;

    fn index(&self, series: &str) -> &f64 {
        self.0.get(series).unwrap_or(&f64::NAN)
    }
}

/// Scrapes all the while, on connections of its own.
struct Scraper {
    over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<u32>,
}

impl Scraper {
    fn start(target: Target) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let task = tokio::spawn(async move {
            let (mut before, mut scrapes) = (Metrics::default(), 0);
            while !is_over.load(Ordering::Relaxed) {
                let now = scrape(&target).await;
                for (series, &value) in now.0.iter().filter(|(name, _)| name.contains("_total")) {
                    let known = before.0.insert(series.clone(), value).unwrap_or_default();
                    // Two generations may answer in turn for a moment, each with its own idea of
                    // what the program counts.
                    if series.starts_with("handover_") {
                        assert!(value >= known, "{series} goes back from {known} to {value}");
                    }
                }
                scrapes += 1;
            }
            scrapes
        });
        Self { over, task }
    }

    async fn stop(self) -> u32 {
        self.over.store(true, Ordering::Relaxed);
        self.task
            .await
            .expect("no scrape fails, and no counter goes back")
    }
}

async fn scrape(target: &Target) -> Metrics {
    let answer = ask(target, &Request::get("/metrics")).await;
    let answer = answer.unwrap_or_else(|fault| panic!("a scrape was not answered: {fault}"));
    let text = String::from_utf8_lossy(&answer.body);
    let series = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            (series.to_owned(), value.parse().expect("a number"))
        });
    Metrics(series.collect())
}

/// Scrapes until what is scraped is so.
async fn until(target: &Target, is_so: impl Fn(&Metrics) -> bool) -> Metrics {
    within("metrics that are so", async {
        loop {
            let now = scrape(target).await;
            if is_so(&now) {
                return now;
            }
        }
    })
    .await
}

fn deploy(link: &Path, program: &Path) {
    let new = link.with_extension("new");
    symlink(program, &new).expect("a link can be made");
    std::fs::rename(new, link).expect("a link can be replaced");
}

fn accepted() -> String {
    format!("handover_connections_accepted_total{{{ENDPOINT}}}")
}

fn open() -> String {
    format!("handover_connections_open{{{ENDPOINT}}}")
}

fn took(result: &str) -> String {
    format!("handover_handover_duration_seconds{{result=\"{result}\"}}")
}

fn migrated(direction: &str) -> String {
    format!("handover_connections_migrated_total{{{ENDPOINT},direction=\"{direction}\"}}")
}

const EXAMPLE: &str = env!("CARGO_BIN_EXE_example-metrics");
const ENDPOINT: &str = r#"endpoint="127.0.0.1:0""#;
const COMMITTED: &str = r#"handover_handovers_total{result="committed"}"#;
const FAILED: &str = r#"handover_handovers_total{result="failed"}"#;
const STAGES: [&str; 4] = [
    r#"handover_handover_stage_duration_seconds{stage="start"}"#,
    r#"handover_handover_stage_duration_seconds{stage="adopt"}"#,
    r#"handover_handover_stage_duration_seconds{stage="init"}"#,
    r#"handover_handover_stage_duration_seconds{stage="commit"}"#,
];
