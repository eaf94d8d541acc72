//! Objects buffered while a copy reads on, so that an owner and its dependents reach the standby together: its garbage
//! collector deletes a dependent whose owner it does not find, and its controllers make dependents of their own for an owner
//! that seems to have none. Bounded by the caller, who takes families out when too much is buffered.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use bytes::Bytes;

use crate::etcd::kv::Revision;
use crate::object::Owner;

/// One object, as it will be written.
#[derive(Clone, PartialEq, Eq)]
pub struct Member {
    /// The whole key.
    pub key: Bytes,
    /// The value, verbatim.
    pub value: Bytes,
    /// The primary's revision of this value.
    pub revision: Revision,
    /// The object's UID.
    pub uid: String,
    /// The owners it names, those included that only an annotation implies.
    pub owners: Vec<Owner>,
}

impl Member {
    fn size_bytes(&self) -> usize {
        self.key.len() + self.value.len() + self.uid.len() + self.owners.len() * 128
    }
}

/// Values hold secrets: even a debug print shows only their length.
impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Member({:?}, {} bytes, {} owners)", self.key, self.value.len(), self.owners.len())
    }
}

/// An owner that a buffered object names, but that is not buffered itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnbufferedOwner {
    /// As its dependent names it.
    pub owner: Owner,
    /// The key of a dependent.
    pub dependent: Bytes,
    /// The newest revision of a dependent: the owner is older, or the dependent is an orphan.
    pub revision: Revision,
}

/// The objects buffered, with their ties of ownership.
#[derive(Debug, Default)]
pub struct Families {
    members: BTreeMap<u64, Member>,
    /// In the order of their coming: the number is the place in `members`.
    by_key: HashMap<Bytes, u64>,
    by_uid: HashMap<String, u64>,
    /// Owner's UID to the dependents that name it, whether the owner is buffered or not.
    dependents: HashMap<String, BTreeSet<u64>>,
    next: u64,
    bytes: usize,
}

impl Families {
    /// Buffers an object, in place of what was buffered under its key.
    pub fn buffer(&mut self, member: Member) {
        self.remove(&member.key);
        // What comes from a page is a slice that would keep the whole page in memory.
        let (key, value) = (Bytes::copy_from_slice(&member.key), Bytes::copy_from_slice(&member.value));
        let member = Member { key: key.clone(), value, ..member };
        self.bytes += member.size_bytes();
        let number = self.next;
        self.next += 1;
        self.by_key.insert(key, number);
        self.by_uid.insert(member.uid.clone(), number);
        for owner in &member.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(number);
        }
        self.members.insert(number, member);
    }

    /// Drops what is buffered under a key: a newer change of it has come.
    pub fn remove(&mut self, key: &Bytes) -> Option<Member> {
        let number = *self.by_key.get(key)?;
        self.take_out(number)
    }

    /// Whether an object with this UID is buffered.
    pub fn contains(&self, uid: &str) -> bool {
        self.by_uid.contains_key(uid)
    }

    /// Bytes buffered.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many objects are buffered.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nothing is buffered.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Owners named by the family of the object buffered longest that are not buffered themselves.
    pub fn unbuffered_owners_of_oldest(&self) -> Vec<UnbufferedOwner> {
        let Some(&oldest) = self.members.keys().next() else { return Vec::new() };
        // Sorted, so that a seed of the simulation reads them in the same order every time.
        let mut owners: BTreeMap<&str, UnbufferedOwner> = BTreeMap::new();
        for member in self.family(oldest).into_iter().filter_map(|number| self.members.get(&number)) {
            for owner in member.owners.iter().filter(|owner| !self.contains(&owner.uid)) {
                let unbuffered = owners.entry(&owner.uid).or_insert_with(|| UnbufferedOwner {
                    owner: owner.clone(),
                    dependent: member.key.clone(),
                    revision: member.revision,
                });
                unbuffered.revision = unbuffered.revision.max(member.revision);
            }
        }
        owners.into_values().collect()
    }

    /// Takes out the family of the object buffered longest, owners before dependents.
    pub fn take_oldest(&mut self) -> Option<Vec<Member>> {
        let oldest = *self.members.keys().next()?;
        let family = self.family(oldest);
        let members: Vec<_> = family.into_iter().filter_map(|number| self.take_out(number)).collect();
        Some(owners_first(members))
    }

    /// Everything tied to an object by ownership, in the order of coming.
    fn family(&self, number: u64) -> BTreeSet<u64> {
        let (mut family, mut open) = (BTreeSet::from([number]), vec![number]);
        while let Some(member) = open.pop().and_then(|number| self.members.get(&number)) {
            let owners = member.owners.iter().filter_map(|owner| self.by_uid.get(&owner.uid));
            let dependents = self.dependents.get(&member.uid).into_iter().flatten();
            open.extend(owners.chain(dependents).filter(|number| family.insert(**number)));
        }
        family
    }

    fn take_out(&mut self, number: u64) -> Option<Member> {
        let member = self.members.remove(&number)?;
        self.bytes -= member.size_bytes();
        self.by_key.remove(&member.key);
        if self.by_uid.get(&member.uid) == Some(&number) {
            self.by_uid.remove(&member.uid);
        }
        for owner in &member.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(&number);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        Some(member)
    }
}

/// Sorts a family so that every owner in it comes before its dependents; otherwise the order stays. Objects that own each
/// other in a circle come last, in the order given.
pub fn owners_first(members: Vec<Member>) -> Vec<Member> {
    let place: HashMap<&str, usize> = members.iter().enumerate().map(|(i, member)| (&member.uid[..], i)).collect();
    let mut waits_for = vec![0usize; members.len()];
    let mut dependents = vec![Vec::new(); members.len()];
    for (i, member) in members.iter().enumerate() {
        let owners: BTreeSet<usize> =
            member.owners.iter().filter_map(|owner| place.get(&owner.uid[..]).copied()).collect();
        for owner in owners.into_iter().filter(|owner| *owner != i) {
            waits_for[i] += 1;
            dependents[owner].push(i);
        }
    }
    let mut ready: VecDeque<usize> = (0..members.len()).filter(|i| waits_for[*i] == 0).collect();
    let mut order = Vec::with_capacity(members.len());
    while let Some(i) = ready.pop_front() {
        order.push(i);
        for &dependent in &dependents[i] {
            waits_for[dependent] -= 1;
            if waits_for[dependent] == 0 {
                ready.push_back(dependent);
            }
        }
    }
    let placed: HashSet<usize> = order.iter().copied().collect();
    order.extend((0..members.len()).filter(|i| !placed.contains(i)));
    let mut members: Vec<Option<Member>> = members.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| members[i].take()).collect()
}

/// How many owners stand above each member, counted within the set: 0 for those that are owned by none of it, or own each
/// other in a circle. Members are (UID, UIDs of the owners); an empty UID owns nothing.
pub fn generations(members: &[(String, Vec<String>)]) -> Vec<u32> {
    let place: HashMap<&str, usize> =
        members.iter().enumerate().filter(|(_, (uid, _))| !uid.is_empty()).map(|(i, (uid, _))| (&uid[..], i)).collect();
    let (mut waits_for, mut dependents) = (vec![0usize; members.len()], vec![Vec::new(); members.len()]);
    for (i, (_, owners)) in members.iter().enumerate() {
        let owners: BTreeSet<usize> = owners.iter().filter_map(|owner| place.get(&owner[..]).copied()).collect();
        for owner in owners.into_iter().filter(|owner| *owner != i) {
            waits_for[i] += 1;
            dependents[owner].push(i);
        }
    }
    let mut generation = vec![0; members.len()];
    let mut ready: VecDeque<usize> = (0..members.len()).filter(|i| waits_for[*i] == 0).collect();
    while let Some(i) = ready.pop_front() {
        for &dependent in &dependents[i] {
            generation[dependent] = generation[dependent].max(generation[i] + 1);
            waits_for[dependent] -= 1;
            if waits_for[dependent] == 0 {
                ready.push_back(dependent);
            }
        }
    }
    for i in (0..members.len()).filter(|i| waits_for[*i] > 0) {
        generation[i] = 0;
    }
    generation
}

/// What is sent for a family: units that each go into one transaction, and the places where everything before must be
/// committed first.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// In one transaction.
    Together(Vec<Member>),
    /// Everything before must be committed.
    Wait,
}

/// Cuts families that fit no transaction: their roots first, then what is left of them, family by family, level by level.
/// `fits` decides whether members fit one transaction.
pub fn steps(families: Vec<Vec<Member>>, fits: impl Fn(&[Member]) -> bool) -> Vec<Step> {
    let (mut steps, mut level) = (Vec::new(), families);
    while !level.is_empty() {
        let mut next = Vec::new();
        for family in level {
            if family.len() <= 1 || fits(&family) {
                steps.push(Step::Together(family));
                continue;
            }
            let (roots, rest) = roots(family);
            steps.extend(roots.into_iter().map(|root| Step::Together(vec![root])));
            let mut left = Families::default();
            rest.into_iter().for_each(|member| left.buffer(member));
            next.extend(std::iter::from_fn(|| left.take_oldest()));
        }
        if !next.is_empty() {
            steps.push(Step::Wait);
        }
        level = next;
    }
    steps
}

/// Those that name no owner among the others, and the others. In a circle the first one counts as a root.
fn roots(family: Vec<Member>) -> (Vec<Member>, Vec<Member>) {
    let uids: HashSet<String> = family.iter().map(|member| member.uid.clone()).collect();
    let is_root =
        |member: &Member| !member.owners.iter().any(|owner| owner.uid != member.uid && uids.contains(&owner.uid));
    let (mut roots, mut rest): (Vec<_>, Vec<_>) = family.into_iter().partition(is_root);
    if roots.is_empty() {
        roots.push(rest.remove(0));
    }
    (roots, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(name: &str, owners: &[&str]) -> Member {
        let owner = |uid: &&str| Owner { uid: (*uid).to_owned(), ..Owner::default() };
        Member {
            key: Bytes::copy_from_slice(format!("/registry/configmaps/apps/{name}").as_bytes()),
            value: Bytes::from_static(b"value"),
            revision: 1,
            uid: name.to_owned(),
            owners: owners.iter().map(owner).collect(),
        }
    }

    fn names(members: &[Member]) -> Vec<&str> {
        members.iter().map(|member| &member.uid[..]).collect()
    }

    #[test]
    fn a_family_comes_out_whole_and_owners_first() {
        let mut families = Families::default();
        for one in [member("c", &["b"]), member("x", &[]), member("b", &["a"]), member("a", &[]), member("y", &["x"])] {
            families.buffer(one);
        }
        assert_eq!(names(&families.take_oldest().unwrap()), ["a", "b", "c"]);
        assert_eq!(names(&families.take_oldest().unwrap()), ["x", "y"]);
        assert_eq!((families.take_oldest(), families.bytes(), families.dependents.len()), (None, 0, 0));
    }

    #[test]
    fn a_newer_value_replaces_the_one_buffered() {
        let mut families = Families::default();
        families.buffer(member("a", &["o"]));
        families.buffer(Member { value: Bytes::from_static(b"newer"), ..member("a", &[]) });
        assert_eq!(families.len(), 1);
        assert!(families.unbuffered_owners_of_oldest().is_empty());
        assert_eq!(families.remove(&member("a", &[]).key).unwrap().value, "newer");
        assert!(families.is_empty());
    }

    #[test]
    fn owners_that_are_not_buffered_are_named_once() {
        let mut families = Families::default();
        families.buffer(member("a", &["o"]));
        families.buffer(member("b", &["a", "o"]));
        let owners = families.unbuffered_owners_of_oldest();
        assert_eq!(owners.len(), 1);
        assert_eq!(owners[0].owner.uid, "o");
    }

    #[test]
    fn a_family_too_large_is_cut_below_its_roots() {
        let family = vec![
            member("root", &[]),
            member("a", &["root"]),
            member("b", &["root"]),
            member("a1", &["a"]),
            member("b1", &["b"]),
        ];
        let steps: Vec<_> = steps(vec![family], |members| members.len() <= 2)
            .iter()
            .map(|step| match step {
                Step::Together(members) => names(members).join(" "),
                Step::Wait => "wait".to_owned(),
            })
            .collect();
        assert_eq!(steps, ["root", "wait", "a a1", "b b1"]);
    }

    proptest! {
        /// Whatever the ownership, circles included: everything comes out once, and no owner after its dependent unless they
        /// own each other.
        #[test]
        fn steps_keep_owners_first(
            owners in prop::collection::vec(prop::collection::vec(0usize..20, 0..3), 1..20),
            most in 1usize..6,
        ) {
            let name = |i: usize| format!("m{i}");
            let mut families = Families::default();
            for (i, of) in owners.iter().enumerate() {
                let of: Vec<String> = of.iter().map(|owner| name(*owner)).collect();
                families.buffer(member(&name(i), &of.iter().map(String::as_str).collect::<Vec<_>>()));
            }
            let all = std::iter::from_fn(|| families.take_oldest()).collect();
            let (mut time, mut when) = (0, HashMap::new());
            for step in steps(all, |members| members.len() <= most) {
                match step {
                    Step::Wait => time += 1,
                    Step::Together(members) => {
                        prop_assert!(members.len() <= most.max(1));
                        for member in members {
                            prop_assert!(when.insert(member.uid, time).is_none());
                        }
                    }
                }
            }
            prop_assert_eq!(when.len(), owners.len());
            let acyclic = owners.iter().enumerate().all(|(i, of)| of.iter().all(|owner| *owner < i || *owner >= owners.len()));
            for (i, of) in owners.iter().enumerate().filter(|_| acyclic) {
                for owner in of.iter().filter(|owner| **owner < owners.len()) {
                    prop_assert!(when[&name(*owner)] <= when[&name(i)]);
                }
            }
        }
    }
}
