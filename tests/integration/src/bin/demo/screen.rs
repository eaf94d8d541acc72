//! What the demo prints: numbered steps, a line or two each, and a summary.

use std::time::Instant;

use etcd_sync_integration::daemon::Daemon;

use crate::facts::Facts;

/// Indent of everything below a step's title.
const INDENT: &str = "    ";
/// Longest line.
const WIDTH: usize = 118;

pub struct Screen {
    began: Instant,
    steps: Vec<(Instant, &'static str)>,
}

impl Screen {
    pub fn new() -> Screen {
        println!("etcd-sync demo: real etcds and the real program on this machine; nothing else is touched.");
        Screen { began: Instant::now(), steps: Vec::new() }
    }

    /// A step begins.
    pub fn step(&mut self, title: &'static str) {
        self.steps.push((Instant::now(), title));
        println!("\n{}. {title}", self.steps.len());
    }

    pub fn say(&self, line: String) {
        println!("{INDENT}{line}");
    }

    /// Lines of a program's output, the first `most` of them.
    pub fn quote(&self, lines: &[&str], most: usize) {
        for line in lines.iter().take(most) {
            println!("{INDENT}| {}", cut(line));
        }
        if lines.len() > most {
            println!("{INDENT}| … {} more lines", lines.len() - most);
        }
    }

    /// The first line of the daemon's log for each of these texts, without its time.
    pub fn log(&self, daemon: &Daemon, texts: &[&str]) {
        self.log_from(daemon, 0, texts);
    }

    /// The same, from a line on.
    pub fn log_from(&self, daemon: &Daemon, mark: usize, texts: &[&str]) {
        let lines = daemon.lines();
        for text in texts {
            if let Some(line) = lines[mark..].iter().find(|line| line.contains(text)) {
                println!(
                    "{INDENT}log | {}",
                    cut(line.split_once(' ').map_or(&line[..], |(_, rest)| rest.trim_start()))
                );
            }
        }
    }

    pub fn failed(&self, error: &anyhow::Error) {
        println!("\nFAILED after {:.1} s: {error:#}", self.began.elapsed().as_secs_f64());
    }

    pub fn summary(&self, facts: &Facts) {
        let filtered: u64 = facts.filtered.values().sum();
        println!("\nSummary");
        row("loaded on the primary", format!("{} keys", facts.loaded));
        row("first sync", format!("{} keys in {:.2} s", facts.first_sync_keys, facts.first_sync.as_secs_f64()));
        row("filtered (not in scope)", format!("{filtered} keys; found on the standby: {}", facts.filtered_found));
        for (reason, count) in &facts.filtered {
            row("", format!("{count:>5}  {reason}"));
        }
        let (puts, deletes) = (facts.written.puts, facts.written.deletes);
        row("changes while it ran", format!("{puts} puts and {deletes} deletes, before, during and after the kill"));
        row("kills survived", format!("{} of {}", facts.kills_survived, facts.kills));
        row(
            "deleted, then compacted",
            format!("{} of {} deletions arrived", facts.deletions_arrived, facts.doomed.len()),
        );
        row("local keys of the standby", format!("{} of {} untouched", facts.local_untouched, facts.local.len()));
        let (missed, mismatched) = (facts.reported("missed"), facts.reported("mismatched"));
        let compared = facts.reported("keysCompared");
        row("deep check", format!("{compared} keys compared: {missed} missed, {mismatched} with another value"));
        let (surplus, local) = (facts.reported("surplus"), facts.reported_local());
        row("", format!("{surplus} surplus, {local} of them made on the standby; such keys are expected and stay"));
        let ends = self.steps.iter().skip(1).map(|(at, _)| *at).chain([Instant::now()]);
        let seconds: Vec<String> = self
            .steps
            .iter()
            .zip(ends)
            .enumerate()
            .map(|(number, ((began, _), end))| format!("{}: {:.1}", number + 1, (end - *began).as_secs_f64()))
            .collect();
        row(
            "seconds for each step",
            format!("{}; in all {:.1}", seconds.join("  "), self.began.elapsed().as_secs_f64()),
        );
        let broken = facts.broken();
        let verdict = if broken.is_empty() { "everything held".to_owned() } else { broken.join("; ") };
        row("verdict", verdict);
    }
}

fn row(name: &str, text: String) {
    println!("  {name:<26}{text}");
}

fn cut(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}
