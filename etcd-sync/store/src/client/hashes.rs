//! What each member of a cluster holds, as a hash: `HashKV`, which `etcdctl endpoint hashkv --cluster` uses as well.

use std::sync::Arc;
use std::time::Duration;

use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_core::link::members::{Agreement, MemberData, Told, compactions_differ, judge};
use futures_util::future::join_all;

use crate::client::cluster::{Etcd, Inner};
use crate::client::connection::Method;
use crate::client::error::Error;
use crate::client::fault::Fault;
use crate::client::members::MEMBER_LIST;
use crate::client::pool::Member;
use crate::client::proto::{
    HashKvRequest, HashKvResponse, ListedMember, MemberListRequest, MemberListResponse, RangeRequest, RangeResponse,
};
use crate::client::read::{IDENTITY_KEY, RANGE};

const HASH_KV: Method =
    Method { path: "/etcdserverpb.Maintenance/HashKV", call: "the hash of its keys", needs_leader: false };

/// A member reads all of its keys for it, old revisions too.
const HASH_TIMEOUT: Duration = Duration::from_secs(60);

/// For a linearizable read of one key.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A compaction between two members' hashes makes them incomparable. API servers compact every five minutes: the next round sees none.
const ROUNDS: usize = 4;

/// Between two rounds: a compaction reaches all members meanwhile.
const PAUSE: Duration = Duration::from_millis(500);

/// A member that answers, and the one way to it that is used.
struct Reached {
    id: u64,
    revision: Revision,
    way: Arc<Member>,
}

impl Etcd {
    /// Whether the voting members of this cluster hold the same keys, old revisions included.
    ///
    /// Each member is asked over an endpoint that was given or, if one of these is itself in the member list, over those of the list. An
    /// answer counts for the member that it names, so that a load balancer in between confuses nothing: members that it hides are not
    /// asked. With authentication the user needs the role root. A member reads its whole database for the answer and delays its writes
    /// meanwhile, so one is asked after the other. That they differ is said only when two rounds show it.
    ///
    /// # Errors
    /// Why no member answered at all.
    pub async fn members_agree(&self) -> Result<Agreement, Error> {
        let mut disagreed = false;
        let mut agreement = Agreement::NotAsked("no member was asked".to_owned());
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let members = self.inner.member_data().await?;
            agreement = judge(&members);
            let twice = disagreed && matches!(agreement, Agreement::Disagree { .. });
            disagreed = matches!(agreement, Agreement::Disagree { .. });
            if twice || !(disagreed || compactions_differ(&members)) {
                return Ok(agreement);
            }
        }
        Ok(match agreement {
            Agreement::Disagree { .. } => Agreement::NotAsked("they differ in one round and not in another".to_owned()),
            other => other,
        })
    }
}

impl Inner {
    /// One round: every voting member of the list, with what it told.
    async fn member_data(&self) -> Result<Vec<MemberData>, Error> {
        let (listed, ways) = self.ways_to_members().await?;
        if let [only] = &listed[..] {
            let told = Told::NotAsked("it is the only one".to_owned());
            return Ok(vec![MemberData { endpoint: name(only, None), told }]);
        }
        let asked = join_all(ways.iter().map(async |way| (way, self.shown_revision(way).await))).await;
        let (mut reached, mut failed): (Vec<Reached>, Vec<(&str, Error)>) = (Vec::new(), Vec::new());
        for (way, answer) in asked {
            match answer {
                Ok((id, revision)) if reached.iter().all(|known| known.id != id) => {
                    reached.push(Reached { id, revision, way: Arc::clone(way) });
                }
                Ok(_) => {}
                Err(error) => failed.push((way.url(), error)),
            }
        }
        let revision = reached.iter().map(|member| member.revision).max().unwrap_or(0);
        let mut members = Vec::with_capacity(listed.len());
        for member in &listed {
            let found = reached.iter().find(|reached| reached.id == member.id);
            let told = match found {
                Some(reached) => self.told(reached, revision).await,
                None => Told::NotAsked(why_not_reached(member, &failed)),
            };
            members.push(MemberData { endpoint: name(member, found), told });
        }
        Ok(members)
    }

    /// The voting members of the list, and every way to one of them that may be used from here.
    async fn ways_to_members(&self) -> Result<(Vec<ListedMember>, Vec<Arc<Member>>), Error> {
        let mut attempts = self.attempts(self.request_timeout);
        while let Some((member, timeout)) = attempts.next() {
            let ask = async {
                let connection = self.verified_connection(&member, MEMBER_LIST.call).await?;
                let answer: MemberListResponse =
                    self.send(&member, &connection, MEMBER_LIST, MemberListRequest {}, timeout).await?;
                Ok((self.usable(&member, &connection, &answer), answer.members))
            };
            let answer: Result<_, Fault> = ask.await;
            match answer {
                Ok((dials, mut listed)) => {
                    listed.retain(|member| !member.is_learner);
                    let given = self.pool.given();
                    let mut ways = given.to_vec();
                    let others = dials.into_iter().filter(|dial| given.iter().all(|way| way.url() != dial.address.url));
                    ways.extend(others.map(|dial| Member::new(dial, true)));
                    return Ok((listed, ways));
                }
                Err(fault) => attempts.failed(&member, fault)?,
            }
        }
        Err(attempts.error())
    }

    /// Which member a way leads to, and its revision behind a linearizable read: it has then applied everything committed before.
    async fn shown_revision(&self, way: &Arc<Member>) -> Result<(u64, Revision), Error> {
        let ask = async {
            let connection = self.verified_connection(way, RANGE.call).await?;
            let request = RangeRequest { key: IDENTITY_KEY, keys_only: true, limit: 1, ..Default::default() };
            let answer: RangeResponse = self.send(way, &connection, RANGE, request, READ_TIMEOUT).await?;
            let header = answer.header.unwrap_or_default();
            Ok((header.member_id, header.revision))
        };
        let limit = READ_TIMEOUT.min(self.request_timeout);
        let answer: Result<_, Fault> = match tokio::time::timeout(limit, ask).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::timeout(self.at(way, RANGE.call), limit)),
        };
        answer.map_err(|fault| fault.error)
    }

    async fn told(&self, member: &Reached, revision: Revision) -> Told {
        let spread = || Told::NotAsked("its endpoint leads to another member each time (a load balancer)".to_owned());
        match self.shown_revision(&member.way).await {
            Ok((id, _)) if id != member.id => return spread(),
            // It has applied all that the other one had, and counts fewer revisions.
            Ok((_, own)) if own < revision => return Told::Behind { revision: own },
            Ok(_) => {}
            Err(error) => return Told::NotAsked(error.to_string()),
        }
        let connection = member.way.connection().await;
        let request = HashKvRequest { revision };
        let answer: Result<HashKvResponse, Fault> =
            self.send(&member.way, &connection, HASH_KV, request, HASH_TIMEOUT).await;
        match answer {
            Ok(answer) if answer.header.unwrap_or_default().member_id != member.id => spread(),
            Ok(answer) => Told::Hash { hash: answer.hash, compacted: answer.compact_revision },
            Err(Fault { error: Error::PermissionDenied { .. }, .. }) => {
                Told::NotAsked("etcd tells its hash only to a user with the role root".to_owned())
            }
            Err(fault) => Told::NotAsked(fault.error.to_string()),
        }
    }
}

/// A member for people: the way to it, or what it calls itself.
fn name(member: &ListedMember, reached: Option<&Reached>) -> String {
    let listed = || member.client_urls.first().cloned();
    let used = reached.map(|reached| reached.way.url().to_owned());
    used.or_else(listed).unwrap_or_else(|| format!("{:x}", member.id))
}

fn why_not_reached(member: &ListedMember, failed: &[(&str, Error)]) -> String {
    let own =
        failed.iter().find(|(url, _)| member.client_urls.iter().any(|listed| listed.trim_end_matches('/') == *url));
    match own {
        Some((_, error)) => error.to_string(),
        None => "no endpoint given leads to one member only (a load balancer or a virtual IP?): to compare them, give each member by the \
                 URL that it advertises"
            .to_owned(),
    }
}
