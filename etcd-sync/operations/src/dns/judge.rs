//! Whether what the servers say is what it should be.

use super::{Answer, Kind, Said, Target};

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It names the target's addresses and no other.
    Target,
    /// It names others, some of them only, or none.
    Old,
    /// It names an alias whose addresses this server does not know: neither good nor bad.
    Alias,
    /// It says nothing: it does not answer, or only with an error.
    Silent,
}

/// What all answers together are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Everyone names the target.
    Good,
    /// Everyone who says anything names the target, and of each kind of server somebody does.
    Silent,
    /// Somebody names something else, or nobody names anything.
    Old,
}

impl Target {
    /// Judges one answer.
    pub fn judge(&self, answer: &Answer) -> Judgement {
        match &answer.said {
            Said::Failed(_) => Judgement::Silent,
            Said::Records(records) if records.addresses == self.addresses => Judgement::Target,
            Said::Records(records) if records.alias.is_some() && records.addresses.is_empty() => Judgement::Alias,
            Said::Records(_) => Judgement::Old,
        }
    }

    /// Judges all answers together. No answer at all is [`Verdict::Old`].
    pub fn verdict(&self, answers: &[Answer]) -> Verdict {
        let judged: Vec<(Kind, Judgement)> = answers.iter().map(|answer| (answer.kind, self.judge(answer))).collect();
        let any = |wanted: &[Judgement]| judged.iter().any(|(_, judgement)| wanted.contains(judgement));
        let speaks = |kind: Kind| {
            let mut of_kind = judged.iter().filter(|(of, _)| *of == kind).peekable();
            let asked = of_kind.peek().is_some();
            !asked || of_kind.any(|(_, judgement)| *judgement != Judgement::Silent)
        };
        if any(&[Judgement::Old]) || !any(&[Judgement::Target]) {
            return Verdict::Old;
        }
        match any(&[Judgement::Silent]) {
            true if speaks(Kind::Authoritative) && speaks(Kind::Resolver) => Verdict::Silent,
            true => Verdict::Old,
            false => Verdict::Good,
        }
    }

    /// How long the longest of the old answers may still be kept, in seconds; `None`: none of a cache is old.
    pub fn longest_old_s(&self, answers: &[Answer]) -> Option<u32> {
        let old = answers.iter().filter(|answer| self.judge(answer) == Judgement::Old);
        old.filter_map(|answer| match &answer.said {
            Said::Records(records) if !records.authoritative => records.differing_ttl_s(self),
            _ => None,
        })
        .max()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::super::Records;
    use super::*;

    pub fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    pub fn target(of: &[&str]) -> Target {
        Target { name: "global.example.com".into(), addresses: addresses(of), ttl_s: 60 }
    }

    pub fn answer(kind: Kind, server: &str, of: &[&str], ttl_s: u32) -> Answer {
        let authoritative = kind == Kind::Authoritative;
        let records = Records { addresses: addresses(of), ttls_s: [ttl_s; 2], alias: None, authoritative };
        Answer { server: server.into(), kind, said: Said::Records(records) }
    }

    pub fn failed(kind: Kind, server: &str, why: &str) -> Answer {
        Answer { server: server.into(), kind, said: Said::Failed(why.into()) }
    }

    fn alias(kind: Kind) -> Answer {
        let records = Records { alias: Some("b.example.com".into()), ..Records::default() };
        Answer { server: "s".into(), kind, said: Said::Records(records) }
    }

    #[test]
    fn only_exactly_the_target_is_good() {
        let target = target(&["10.0.0.2", "fd00::2"]);
        for (of, expected) in [
            (&["10.0.0.2", "fd00::2"][..], Judgement::Target),
            (&["10.0.0.2"], Judgement::Old),
            (&["10.0.0.2", "fd00::1"], Judgement::Old),
            (&["10.0.0.2", "fd00::2", "10.0.0.1"], Judgement::Old),
            (&[], Judgement::Old),
        ] {
            assert_eq!(target.judge(&answer(Kind::Resolver, "r", of, 5)), expected, "{of:?}");
        }
        assert_eq!(target.judge(&alias(Kind::Authoritative)), Judgement::Alias);
    }

    #[test]
    fn the_dead_do_not_decide_and_the_old_do() {
        let target = target(&["10.0.0.2"]);
        let good = |kind| answer(kind, "g", &["10.0.0.2"], 5);
        let old = |kind| answer(kind, "o", &["10.0.0.1"], 5);
        let dead = |kind| failed(kind, "d", "no answer");
        let (owner, cache) = (Kind::Authoritative, Kind::Resolver);
        for (answers, expected) in [
            (vec![], Verdict::Old),
            (vec![good(owner)], Verdict::Good),
            (vec![good(owner), good(cache)], Verdict::Good),
            (vec![good(owner), old(cache)], Verdict::Old),
            (vec![good(owner), dead(owner), good(cache)], Verdict::Silent),
            (vec![dead(owner), good(cache)], Verdict::Old),
            (vec![good(owner), dead(cache)], Verdict::Old),
            (vec![dead(owner), dead(cache)], Verdict::Old),
            (vec![alias(owner), good(cache)], Verdict::Good),
            (vec![alias(owner), alias(cache)], Verdict::Old),
        ] {
            assert_eq!(target.verdict(&answers), expected, "{answers:?}");
        }
    }

    #[test]
    fn only_a_cache_tells_how_long() {
        let target = target(&["10.0.0.2"]);
        let answers = [
            answer(Kind::Authoritative, "a", &["10.0.0.1"], 900),
            answer(Kind::Resolver, "b", &["10.0.0.1"], 7),
            answer(Kind::Resolver, "c", &[], 5),
            answer(Kind::Resolver, "d", &["10.0.0.2"], 60),
        ];
        assert_eq!(target.longest_old_s(&answers), Some(7));
        assert_eq!(target.longest_old_s(&answers[..1]), None);
        let records = Records { addresses: addresses(&["10.0.0.1"]), ttls_s: [5, 900], ..Records::default() };
        let half = Answer { server: "h".into(), kind: Kind::Resolver, said: Said::Records(records) };
        assert_eq!(target.longest_old_s(&[half]), Some(5), "that there is no AAAA record is right");
    }

    proptest! {
        #[test]
        fn one_old_answer_spoils_everything(dead in 0..3usize, good in 0..3usize, at in 0..6usize) {
            let target = target(&["10.0.0.2"]);
            let mut answers = vec![failed(Kind::Resolver, "d", "x"); dead];
            answers.extend(vec![answer(Kind::Resolver, "g", &["10.0.0.2"], 1); good]);
            answers.extend(vec![answer(Kind::Authoritative, "g", &["10.0.0.2"], 1); good]);
            answers.insert(at.min(answers.len()), answer(Kind::Resolver, "o", &["10.0.0.3"], 1));
            prop_assert_eq!(target.verdict(&answers), Verdict::Old);
        }
    }
}
