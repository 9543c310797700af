//! A service that is being verified.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{self, Instant};

use super::kill::{Moment, Victim};
use super::outcome::{Ending, Handover, Outcome, Row};
use super::place::Place;
use super::plan::{Event, Unverified, Usage, Verify};
use super::survey::{Ground, name, survey};
use super::trigger::{Aimed, Pulled, Vain};
use crate::testing::Signal;
use crate::testing::load::{Counts, Kind, Load, Protocol, Random, Wire};
use crate::testing::process::{Family, Member, Output, Process, Service, Weight};
use crate::testing::target::{Ends, Target};

/// A service under load, that is restarted step by step.
///
/// Dropping it ends the loads and every process of the service.
#[derive(Debug)]
pub struct Session {
    // The loads go first: they are not to see the end of the service.
    loads: Vec<Loaded>,
    service: Service,
    family: Family,
    plan: Verify,
    grounds: Vec<Ground>,
    trigger: Aimed,
    /// Where it is asked who answers.
    asked: (Target, Protocol),
    /// Whether a connection is looked at before it is used, since the service closes it with its answer.
    looks_first: bool,
    serving: Member,
    /// All that have had a connection: whoever never had one is a master.
    answered: BTreeSet<(u32, u64)>,
    /// Who was there before the last trigger.
    earlier: Vec<Member>,
    handovers: Vec<Handover>,
    before: Weight,
    started: Instant,
    ticked: Instant,
    random: Random,
    ended_early: Option<String>,
}

#[derive(Debug)]
struct Loaded {
    endpoint: String,
    protocol: &'static str,
    load: Load,
}

impl Session {
    pub(super) async fn start(mut plan: Verify) -> Result<Self, Unverified> {
        let service = plan.program.clone().start();
        let service = service
            .map_err(|error| Unverified(format!("the program could not be started: {error}")))?;
        let pid = service.first().pid();
        (plan.observer)(Event::Started { pid });
        let mut family = service.family();
        let places = listening(&plan, &service, &mut family).await?;
        let mut grounds = Vec::new();
        for place in &places {
            let ground = match survey(place, plan.says.as_deref()).await {
                Ok(ground) => ground,
                // It may be a name that is not its own any more.
                Err(_) if plan.places.is_empty() => Ground::unknown(&place.target),
                Err(why) => return Err(Unverified(why)),
            };
            (plan.observer)(Event::Found(&ground));
            grounds.push(ground);
        }
        let asked = grounds
            .iter()
            .find_map(|ground| Some((ground.target.clone(), ground.speaks.first()?.clone())));
        let asked = asked.ok_or_else(|| {
            let listens: Vec<String> = grounds.iter().map(|ground| ground.target.to_string()).collect();
            Unverified(format!(
                "the service listens on {}, but speaks neither HTTP nor lines there; tell what it speaks \
                 (`--url`, `--send`)",
                listens.join(", ")
            ))
        })?;
        let members = family.members();
        let trigger = plan.trigger.clone();
        let trigger = trigger.aim(&Family::listening(&members), plan.control.as_ref());
        let trigger = trigger.map_err(Unverified)?;
        (plan.observer)(Event::Aimed {
            trigger: &trigger.to_string(),
        });
        let before = Family::weight(&members);
        let nobody = Member {
            pid,
            started: 0,
            parent: 0,
        };
        let now = Instant::now();
        let mut session = Self {
            loads: Vec::new(),
            service,
            family,
            random: Random::new(plan.seed),
            plan,
            grounds,
            trigger,
            asked,
            looks_first: false,
            serving: nobody,
            answered: BTreeSet::new(),
            earlier: Vec::new(),
            handovers: Vec::new(),
            before,
            started: now,
            ticked: now,
            ended_early: None,
        };
        session.serving = session.first_answer().await?;
        session.loads = session.load()?;
        session.settle().await;
        let pid = session.serving.pid;
        (session.plan.observer)(Event::Loaded { pid });
        Ok(session)
    }

    /// What the service prints.
    pub fn output(&self) -> &Output {
        self.service.output()
    }

    /// The process that has answered last.
    pub fn serving(&self) -> u32 {
        self.serving.pid
    }

    /// Triggers all the restarts that were planned, with pauses between them, unless the service cannot go on.
    ///
    /// # Cancel safety
    ///
    /// The restart in progress is not waited for.
    pub async fn hand_over_all(&mut self) {
        for _ in 0..self.plan.handovers {
            if self
                .plan
                .duration
                .is_some_and(|duration| self.started.elapsed() >= duration)
            {
                break;
            }
            self.pause().await;
            if !self.hand_over().await {
                break;
            }
        }
        self.pause().await;
    }

    /// Lets the loads go on for as long as it was planned.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn pause(&mut self) {
        let pause = self.random.within(self.plan.pause.clone());
        self.tick_until(Instant::now() + pause).await;
    }

    /// Triggers a restart, kills what was planned, and waits for the first answer of the new process; false if the
    /// service cannot go on after it.
    ///
    /// # Cancel safety
    ///
    /// The restart in progress is not waited for.
    pub async fn hand_over(&mut self) -> bool {
        let at = self.started.elapsed();
        let ending = match self.switch().await {
            Ok(ending) => ending,
            Err(why) => Ending::Failed { why },
        };
        self.record(at, ending);
        self.ended_early.is_none()
    }

    /// Triggers a restart that is to fail, and waits until its successor is gone and the process that served answers
    /// again; false if it is otherwise.
    ///
    /// # Cancel safety
    ///
    /// The restart in progress is not waited for.
    pub async fn reject(&mut self) -> bool {
        let at = self.started.elapsed();
        let ending = match self.rejection().await {
            Ok(took) => Ending::Rejected { took },
            Err(why) => Ending::Failed { why },
        };
        let as_planned = matches!(ending, Ending::Rejected { .. });
        self.record(at, ending);
        as_planned
    }

    /// Ends the loads, waits for the end of what was replaced, stops the service, and tells what was seen.
    ///
    /// # Errors
    ///
    /// If nothing at all could be seen.
    ///
    /// # Cancel safety
    ///
    /// Every process of the service is ended with the future.
    pub async fn finish(mut self) -> Result<Outcome, Unverified> {
        let elapsed = self.started.elapsed();
        (self.plan.observer)(Event::Stopping);
        self.census();
        let (mut rows, mut failures) = (Vec::new(), Vec::new());
        for Loaded {
            endpoint,
            protocol,
            load,
        } in std::mem::take(&mut self.loads)
        {
            let report = load.stop().await;
            for (kind, counts) in &report.kinds {
                rows.push(Row {
                    endpoint: endpoint.clone(),
                    protocol,
                    kind: *kind,
                    counts: counts.clone(),
                });
            }
            failures.extend(report.failures.into_iter().map(|failure| {
                let at = failure.at.saturating_duration_since(self.started);
                (at, failure)
            }));
        }
        failures.sort_by_key(|(at, _)| *at);
        let left_over = self.left_over().await;
        let after = self.rest().await;
        self.service.stop_within(STOP).await;
        Ok(Outcome {
            grounds: self.grounds,
            rows,
            failures,
            trigger: self.trigger.to_string(),
            handovers: self.handovers,
            before: self.before,
            after,
            left_over: left_over.iter().map(|member| member.pid).collect(),
            ended_early: self.ended_early,
            elapsed,
        })
    }

    fn record(&mut self, at: Duration, ending: Ending) {
        let handover = Handover {
            number: self.handovers.len() + 1,
            at,
            ending,
        };
        (self.plan.observer)(Event::HandedOver(&handover));
        self.handovers.push(handover);
    }

    async fn first_answer(&mut self) -> Result<Member, Unverified> {
        let until = Instant::now() + self.plan.timeout;
        loop {
            match self.who_answers().await {
                Ok((_, member)) => return Ok(member),
                Err(_) if !self.looks_first => self.looks_first = true,
                Err(why) if Instant::now() > until => return Err(Unverified(why)),
                Err(_) => time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Asks, and tells when the answer came and from which process.
    async fn who_answers(&mut self) -> Result<(Instant, Member), String> {
        let (target, protocol) = &self.asked.clone();
        let wire = Wire::connect(target, protocol, PROBE);
        let mut wire = match time::timeout(PROBE, wire).await {
            Ok(wire) => wire.map_err(|fault| fault.to_string())?,
            Err(_) => return Err(format!("no connection to {target} in {PROBE:?}")),
        };
        let ends = wire
            .ends()
            .cloned()
            .ok_or("its connections have no addresses")?;
        let holder = match self.looks_first {
            true => self.holder(&ends, true).await,
            false => None,
        };
        wire.ask(false, PROBE)
            .await
            .map_err(|fault| fault.to_string())?;
        let at = Instant::now();
        let holder = match holder {
            Some(holder) => Some(holder),
            None => self.holder(&ends, false).await,
        };
        let holder = holder.ok_or_else(|| {
            format!(
                "no process of the service has the other end of a connection to {target}: either it runs as another \
                 user, or whoever accepts there was not started by it"
            )
        })?;
        self.answered.insert((holder.pid, holder.started));
        Ok((at, holder))
    }

    /// Who has the other end of a connection. Where several have it, it is looked at again: a child that is about to
    /// execute another program has what its parent has, and answers nothing. If it lasts, it is the youngest.
    async fn holder(&mut self, ends: &Ends, waits: bool) -> Option<Member> {
        let until = Instant::now() + ACCEPTED;
        loop {
            let holders = self.family.holders_of(ends);
            let decided = match holders.len() {
                0 => !waits,
                count => count == 1,
            };
            if decided || Instant::now() >= until {
                return holders.first().copied();
            }
            time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The process that a restart is asked of: the one that serves, or the master above it.
    fn controller(&mut self) -> u32 {
        let serving = self.serving;
        let members = self.family.members();
        let parent = members.iter().find(|member| member.pid == serving.parent);
        match parent {
            Some(parent)
                if !self.answered.contains(&(parent.pid, parent.started))
                    && parent.has_program_of(serving.pid) =>
            {
                parent.pid
            }
            _ => serving.pid,
        }
    }

    /// Who is there, and the moment in which a restart was triggered.
    async fn trigger(&mut self) -> Result<(Instant, Pulled), String> {
        // Of several processes that serve, another one may have answered in the meantime.
        let serving = self.who_answers().await;
        self.serving = match serving {
            Ok((_, serving)) => serving,
            Err(why) => return Err(self.gone().await.unwrap_or(why)),
        };
        self.census();
        self.earlier = self.family.members();
        let pid = self.controller();
        self.set_restarting(true);
        let at = Instant::now();
        match self.trigger.pull(pid, self.plan.timeout) {
            Ok(pulled) => Ok((at, pulled)),
            Err(why) => Err(self.in_vain(why)),
        }
    }

    /// Says why, and whether it would be any different the next time.
    fn failed(&mut self, why: Vain) -> String {
        match why {
            Vain::Restart(why) => why + &self.last_words(),
            Vain::Trigger(why) => self.in_vain(why),
        }
    }

    /// It would not be any different the next time.
    fn in_vain(&mut self, why: String) -> String {
        self.set_restarting(false);
        self.ended_early = Some(why.clone());
        why
    }

    async fn switch(&mut self) -> Result<Ending, String> {
        let (at, mut pulled) = self.trigger().await?;
        let predecessor = self.serving;
        let mut ended = self.switched(at, &mut pulled).await;
        if ended.is_ok() {
            // A command may have more to do than what was waited for.
            match pulled.ended().await {
                // Who asked was answered by the one that was killed.
                Err(Vain::Restart(_)) if matches!(ended, Ok(Ending::Survived { .. })) => {}
                Err(why) => ended = Err(self.failed(why)),
                Ok(()) => {}
            }
            // What the predecessor still does belongs to the restart.
            let until = Instant::now() + AFTERMATH;
            while Instant::now() < until && predecessor.is_running() {
                time::sleep(LOOK_AGAIN).await;
                self.tick();
            }
        }
        self.set_restarting(false);
        ended
    }

    async fn switched(&mut self, at: Instant, pulled: &mut Pulled) -> Result<Ending, String> {
        let until = at + self.plan.timeout;
        let mut kill = self
            .plan
            .kill
            .map(|kill| (kill.victim, at + self.moment(kill.moment)));
        let mut killed = None;
        let mut failing: Option<(Member, Instant)> = None;
        let mut asked = None;
        loop {
            let fresh = self.fresh();
            if let Some((victim, due)) = kill {
                if Instant::now() >= due {
                    if let Some(member) = self.victim(victim, &fresh) {
                        self.end(member)?;
                        killed = Some((victim, member, Instant::now()));
                        kill = None;
                    }
                }
            }
            if kill.is_some_and(|(_, due)| due <= Instant::now())
                && fresh.is_empty()
                && at.elapsed() < START
            {
                // The moment is now, as soon as there is somebody: there is no time to ask.
                time::sleep(LOOK_AGAIN).await;
                continue;
            }
            let answer = self.who_answers().await;
            if let Ok((when, member)) = answer {
                self.serving = member;
                if let Some((victim, dead, then)) = killed {
                    if member != dead {
                        return Ok(Ending::Survived {
                            victim,
                            killed: then - at,
                            pid: member.pid,
                            took: when - then,
                        });
                    }
                } else if !self.earlier.contains(&member) && !self.awaits(kill, &fresh) {
                    // A kill that comes later meets no restart any more.
                    return Ok(Ending::Switched {
                        pid: member.pid,
                        took: when - at,
                    });
                }
            }
            match pulled.failed().await {
                Some(Vain::Restart(_)) if killed.is_some() => {}
                Some(why) if self.gone().await.is_none() => return Err(self.failed(why)),
                _ => {}
            }
            if let Some(why) = self.gone().await {
                return Err(self.in_vain(why));
            }
            // One that has come and gone has failed; one may come after it, though, as with a program that forks.
            failing = match (fresh.first(), failing) {
                (Some(member), _) => Some((*member, Instant::now())),
                (None, Some((member, seen))) if seen.elapsed() > GIVEN_UP && killed.is_none() => {
                    return Err(format!(
                        "process {} was started and has ended, and process {} serves on{}",
                        member.pid,
                        self.serving.pid,
                        self.last_words()
                    ));
                }
                (None, failing) => failing,
            };
            if pulled.is_over() {
                let asked = *asked.get_or_insert_with(Instant::now);
                if failing.is_none() && killed.is_none() && asked.elapsed() > START {
                    return Err(format!(
                        "no new process was seen within {START:?} after {}{}",
                        self.trigger,
                        self.last_words()
                    ));
                }
            }
            if Instant::now() >= until {
                return Err(format!(
                    "no new process has answered within {:?} after {}{}",
                    self.plan.timeout,
                    self.trigger,
                    self.last_words()
                ));
            }
            time::sleep(LOOK_AGAIN).await;
            self.tick();
        }
    }

    async fn rejection(&mut self) -> Result<Duration, String> {
        let (at, mut pulled) = self.trigger().await?;
        let ended = self.rejected(at, &mut pulled).await;
        if ended.is_ok() {
            // Why it has failed is known; a service that has said so takes the next one.
            pulled.ended().await.ok();
        }
        self.set_restarting(false);
        ended
    }

    async fn rejected(&mut self, at: Instant, pulled: &mut Pulled) -> Result<Duration, String> {
        let until = at + self.plan.timeout;
        let (mut seen, mut over) = (false, None);
        let before = self.service.output().lines().len();
        let mut heard = (before, at);
        loop {
            let fresh = self.fresh();
            seen |= !fresh.is_empty();
            if seen && fresh.is_empty() {
                over.get_or_insert_with(Instant::now);
            }
            // One that has come and gone between two looks has left a word.
            let lines = self.service.output().lines().len();
            if lines != heard.0 {
                heard = (lines, Instant::now());
            }
            if !seen && lines != before && heard.1.elapsed() > GIVEN_UP {
                (seen, over) = (true, Some(heard.1));
            }
            // While nobody is there yet, a question would only keep this from looking.
            let answering = match seen {
                true => self.who_answers().await.ok(),
                false => None,
            };
            if let Some((_, member)) = answering {
                if !self.earlier.contains(&member) {
                    return Err(format!(
                        "process {} answers, though it was to fail",
                        member.pid
                    ));
                }
                if let Some(over) = over {
                    return Ok(over - at);
                }
            }
            // That the restart has failed is what is waited for.
            if let Some(Vain::Trigger(why)) = pulled.failed().await {
                return Err(self.in_vain(why));
            }
            if let Some(why) = self.gone().await {
                return Err(self.in_vain(why));
            }
            if Instant::now() >= until {
                return Err(format!("it has not failed within {:?}", self.plan.timeout));
            }
            time::sleep(LOOK_AGAIN).await;
            self.tick();
        }
    }

    /// The processes that were not there before the trigger, in order of their start.
    fn fresh(&mut self) -> Vec<Member> {
        let mut members = self.family.members();
        members.retain(|member| !self.earlier.contains(member));
        members
    }

    fn victim(&self, victim: Victim, fresh: &[Member]) -> Option<Member> {
        // Before there is a successor nobody would be left.
        let successor = *fresh.first()?;
        match victim {
            Victim::Successor => Some(successor),
            Victim::Incumbent => {
                let mut earlier = self.earlier.iter().rev();
                let served =
                    |member: &&Member| self.answered.contains(&(member.pid, member.started));
                earlier
                    .find(|member| served(member) && member.is_running())
                    .copied()
            }
        }
    }

    /// Kills a process, and tells the loads if it had connections.
    fn end(&self, member: Member) -> Result<(), String> {
        let gone = |error| format!("process {} could not be killed: {error}", member.pid);
        let process = Process::open(member.pid).map_err(gone)?;
        // It stands still while it is looked at.
        process.signal(Signal::STOP).map_err(gone)?;
        let targets: Vec<Target> = self
            .grounds
            .iter()
            .map(|ground| ground.target.clone())
            .collect();
        if member.has_connection(&targets) {
            for loaded in &self.loads {
                loaded.load.killed();
            }
        }
        process.signal(Signal::KILL).map_err(gone)
    }

    fn moment(&mut self, moment: Moment) -> Duration {
        match moment {
            Moment::After(delay) => delay,
            Moment::Random => self.random.within(Duration::ZERO..=RANDOM),
        }
    }

    /// Whether an incumbent is still there to be killed.
    fn awaits(&self, kill: Option<(Victim, Instant)>, fresh: &[Member]) -> bool {
        match kill {
            Some((Victim::Incumbent, _)) => self.victim(Victim::Incumbent, fresh).is_some(),
            _ => false,
        }
    }

    /// Why the service cannot go on, if it cannot.
    async fn gone(&mut self) -> Option<String> {
        if !self.family.members().is_empty() {
            return None;
        }
        self.service.output().complete().await;
        Some(format!(
            "the service has ended: no process of it is left{}",
            self.last_words()
        ))
    }

    /// What the service has said last, as the end of a sentence.
    fn last_words(&self) -> String {
        last_words(self.service.output())
    }

    fn set_restarting(&self, restarting: bool) {
        for loaded in &self.loads {
            loaded.load.restarting(restarting);
        }
    }

    /// Looks at which process has which connection.
    fn census(&mut self) {
        let members = self.family.members();
        let holders = Family::holders(&members);
        for loaded in &self.loads {
            let family = &mut self.family;
            loaded
                .load
                .take_census(|ends| family.holder_among(&holders, ends));
        }
    }

    /// What was replaced by the last restart, and is still there when it has had time to end.
    async fn left_over(&mut self) -> Vec<Member> {
        // A connection that was just closed is still to be seen by whoever serves it.
        let until = Instant::now() + LEFT_OVER;
        loop {
            let left = self.replaced();
            if left.is_empty() || Instant::now() >= until {
                return left;
            }
            time::sleep(Duration::from_millis(10)).await;
            self.tick();
        }
    }

    /// What the service takes up when it has seen that its clients have gone.
    async fn rest(&mut self) -> Weight {
        let until = Instant::now() + REST;
        loop {
            let weight = Family::weight(&self.family.members());
            if weight.descriptors <= self.before.descriptors || Instant::now() >= until {
                return weight;
            }
            time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn replaced(&mut self) -> Vec<Member> {
        if !self
            .handovers
            .iter()
            .any(|handover| matches!(handover.ending, Ending::Switched { .. }))
        {
            return Vec::new();
        }
        let members = self.family.members();
        // The ancestors of whoever serves stay where they are masters.
        let mut kept = vec![self.serving.pid];
        while let Some(parent) = members.iter().find_map(|member| {
            let is_last = Some(&member.pid) == kept.last();
            (is_last && members.iter().any(|other| other.pid == member.parent))
                .then_some(member.parent)
        }) {
            let is_master = !self.answered.iter().any(|(pid, _)| *pid == parent);
            if !is_master {
                break;
            }
            kept.push(parent);
        }
        let mut earlier = self.earlier.clone();
        earlier.retain(|member| members.contains(member) && !kept.contains(&member.pid));
        earlier
    }

    fn load(&self) -> Result<Vec<Loaded>, Unverified> {
        let mut loads = Vec::new();
        for ground in &self.grounds {
            for protocol in &ground.speaks {
                let kinds = self.kinds(protocol, ground.closes);
                if kinds.is_empty() {
                    continue;
                }
                let millis = Duration::from_millis;
                let mut plan = Load::on(ground.target.clone())
                    .speak(protocol.clone())
                    .pause(Kind::Idle, millis(500)..=millis(1500))
                    .seed(self.plan.seed);
                if let Some(rate) = self.plan.rate {
                    plan = plan.rate(rate);
                }
                for kind in kinds {
                    plan = plan.clients(kind, self.plan.clients);
                }
                loads.push(Loaded {
                    endpoint: ground.target.to_string(),
                    protocol: name(protocol),
                    load: plan.start(),
                });
            }
        }
        if loads.is_empty() {
            let spoken: Vec<String> = self.grounds.iter().map(ToString::to_string).collect();
            return Err(Unverified(format!(
                "none of the loads that were chosen fits: {}",
                spoken.join("; ")
            )));
        }
        Ok(loads)
    }

    fn kinds(&self, protocol: &Protocol, closes: bool) -> Vec<Kind> {
        let chosen = |usage| self.plan.usages.contains(&usage);
        let all = |kinds: &[Kind], usage| {
            if chosen(usage) {
                kinds.to_vec()
            } else {
                Vec::new()
            }
        };
        match protocol {
            Protocol::Http(_) => [
                (Usage::New, Kind::New),
                (Usage::KeepAlive, Kind::KeepAlive),
                (Usage::ThinkTime, Kind::ThinkTime),
                (Usage::Idle, Kind::Idle),
                (Usage::Silent, Kind::Silent),
            ]
            .into_iter()
            // Where no connection is kept, there is no other way to use one.
            .filter(|(usage, kind)| {
                chosen(*usage) && (!closes || matches!(kind, Kind::New | Kind::Silent))
            })
            .map(|(_, kind)| kind)
            .collect(),
            Protocol::Http2(..) => all(&[Kind::KeepAlive, Kind::ThinkTime], Usage::Http2),
            Protocol::WebSocket(_) => all(&[Kind::ThinkTime], Usage::WebSocket),
            Protocol::Lines(_) => all(
                &[Kind::New, Kind::KeepAlive, Kind::ThinkTime, Kind::Silent],
                Usage::Raw,
            ),
        }
    }

    /// Waits until every kind of load has had an answer.
    async fn settle(&mut self) {
        let until = Instant::now() + SETTLE;
        while Instant::now() < until {
            let all_have = self.loads.iter().all(|loaded| {
                let report = loaded.load.report();
                report.kinds.values().all(|counts| counts.answered > 0)
            });
            if all_have {
                return;
            }
            time::sleep(Duration::from_millis(10)).await;
            self.tick();
        }
    }

    async fn tick_until(&mut self, until: Instant) {
        while Instant::now() < until {
            self.tick();
            time::sleep_until(until.min(Instant::now() + TICK)).await;
        }
        self.tick();
    }

    /// Tells the observer how it stands, not too often.
    fn tick(&mut self) {
        if self.ticked.elapsed() < TICK {
            return;
        }
        self.ticked = Instant::now();
        let mut counts = Counts::default();
        for loaded in &self.loads {
            counts.add(&loaded.load.report().all());
        }
        (self.plan.observer)(Event::Progress {
            counts: &counts,
            pid: self.serving.pid,
            handovers: self.handovers.len(),
        });
    }
}

/// Waits until the service listens, and tells where it is to be loaded.
async fn listening(
    plan: &Verify,
    service: &Service,
    family: &mut Family,
) -> Result<Vec<Place>, Unverified> {
    let until = Instant::now() + plan.timeout;
    let mut found: (Vec<Place>, Instant) = (Vec::new(), Instant::now());
    loop {
        let members = family.members();
        if members.is_empty() && service.first().is_running() {
            // It was looked at in a moment in which nobody can tell whose it is.
            family.forget();
        } else if members.is_empty() {
            let exit = service.first().exited().await;
            service.output().complete().await;
            return Err(Unverified(format!(
                "the program has ended {exit}, before it listened{}",
                last_words(service.output())
            )));
        }
        let listens = Family::listening(&members);
        let places: Vec<Place> = match plan.places.is_empty() {
            // A control socket is not there to be loaded.
            true => (listens.iter())
                .filter(|target| !target.is_control() && plan.control.as_ref() != Some(*target))
                .map(Place::found)
                .collect(),
            false => {
                let mut ready = plan.places.clone();
                for place in &plan.places {
                    if place.target.connect().await.is_err() {
                        ready.clear();
                    }
                }
                ready
            }
        };
        // A service that listens on several sockets does not do so at one moment.
        if found.0 != places {
            found = (places, Instant::now());
        } else if !found.0.is_empty() && found.1.elapsed() > STEADY {
            return Ok(found.0);
        }
        if Instant::now() >= until {
            let what = match plan.places.is_empty() {
                true => "the program listens on no TCP or Unix stream socket".to_owned(),
                false => "the program does not listen where it is to be loaded".to_owned(),
            };
            return Err(Unverified(format!(
                "{what} after {:?}{}",
                plan.timeout,
                last_words(service.output())
            )));
        }
        time::sleep(Duration::from_millis(5)).await;
    }
}

fn last_words(output: &Output) -> String {
    let lines = output.lines();
    let last: Vec<&str> = lines
        .iter()
        .rev()
        .take(LINES)
        .map(|line| line.text.as_str())
        .collect();
    if last.is_empty() {
        return String::new();
    }
    let last: Vec<String> = last
        .iter()
        .rev()
        .map(|line| format!("\n    {line}"))
        .collect();
    format!("; it has said last:{}", last.concat())
}

/// How many of its last lines are shown.
const LINES: usize = 6;
/// How often the kernel is asked who is there, while something is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
const TICK: Duration = Duration::from_millis(80);
/// How long it may take until a new process is seen at all.
const START: Duration = Duration::from_secs(10);
/// How long one question who serves may take.
const PROBE: Duration = Duration::from_secs(1);
/// How long a connection may take to be accepted, or to be one process's alone.
const ACCEPTED: Duration = Duration::from_millis(300);
/// How long the set of listeners has to be the same.
const STEADY: Duration = Duration::from_millis(200);
const SETTLE: Duration = Duration::from_secs(5);
/// How long after its switch a restart is still going on, while the predecessor has not ended.
const AFTERMATH: Duration = Duration::from_secs(1);
/// How long nobody has to be there after a successor that has ended.
const GIVEN_UP: Duration = Duration::from_secs(1);
/// The longest time in which a random kill comes.
const RANDOM: Duration = Duration::from_millis(60);
/// How long what was replaced has to end when its clients have gone.
const LEFT_OVER: Duration = Duration::from_secs(5);
/// How long it takes at most until the ends of connections were seen.
const REST: Duration = Duration::from_secs(1);
/// How long the service has to end.
const STOP: Duration = Duration::from_secs(5);
