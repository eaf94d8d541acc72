//! Changes by RFC 2136: looks first, sends once, and asks the record where the outcome is not known.

use std::time::{SystemTime, UNIX_EPOCH};

use etcd_sync_operations::dns::{Kind, NameServer, Records, Rejected, Target, TsigKey, Update, list};
use hickory_proto::op::Message;

use super::error::DnsError;
use super::servers::Server;
use super::wire::{self, Sent};
use super::{Switched, message};

/// The zone's primary server, and what signs updates to it.
#[derive(Clone, Debug)]
pub struct Primary {
    pub server: NameServer,
    pub zone: String,
    pub key: Option<TsigKey>,
}

enum Outcome {
    Done,
    Rejected(Rejected),
    Unknown(String),
}

impl Primary {
    /// What it has for the name now.
    pub async fn look(&self, name: &str) -> Result<Records, DnsError> {
        self.ask(&Server::named(&self.server).await, name)
            .await
            .map_err(|why| DnsError::Server { server: self.server.to_string(), why })
    }

    /// Gives the name the target's addresses.
    pub async fn set(&self, target: &Target) -> Result<Switched, DnsError> {
        target.check_zone(&self.zone)?;
        let now = self.look(&target.name).await?;
        match Update::to_target(&self.zone, target, &now)? {
            None => Ok(Switched::Already),
            Some(update) => {
                let after = self.carry_out(&update, &now, |records| records.addresses == target.addresses).await?;
                Ok(Switched::Updated { before: now, after })
            }
        }
    }

    /// Takes the name away.
    pub async fn remove(&self, target: &Target) -> Result<(), DnsError> {
        target.check_zone(&self.zone)?;
        let now = self.look(&target.name).await?;
        if let Some(update) = Update::removal(&self.zone, target, &now)? {
            self.carry_out(&update, &now, |records| records.addresses.is_empty()).await?;
        }
        Ok(())
    }

    /// Sends the update once; gives what the server has for the name then.
    async fn carry_out(
        &self,
        update: &Update,
        before: &Records,
        wanted: impl Fn(&Records) -> bool,
    ) -> Result<Records, DnsError> {
        let server = Server::named(&self.server).await;
        let outcome = self.send(&server, update).await?;
        let name = &update.name;
        let after = self.ask(&server, name).await;
        let label = self.server.to_string();
        match (outcome, after) {
            (Outcome::Done, Ok(after)) => Ok(after),
            (Outcome::Rejected(Rejected::Changed { .. }) | Outcome::Unknown(_), Ok(after)) if wanted(&after) => {
                Ok(after)
            }
            (Outcome::Rejected(Rejected::Changed { .. }), Ok(after)) => {
                let found = list(&after.addresses);
                if after.addresses == before.addresses && after.alias == before.alias {
                    return Err(DnsError::NoSuchRecord { server: label, name: name.clone(), found });
                }
                Err(DnsError::Changed { name: name.clone(), found })
            }
            (Outcome::Rejected(rejected), _) => Err(DnsError::Rejected(rejected)),
            (Outcome::Unknown(why), Ok(_)) => Err(DnsError::Lost { server: label, why }),
            (Outcome::Unknown(why), Err(again)) => Err(DnsError::Unknown { server: label, why, again }),
            (Outcome::Done, Err(again)) => {
                Err(DnsError::Unknown { server: label, why: "it said yes".to_owned(), again })
            }
        }
    }

    async fn send(&self, server: &Server, update: &Update) -> Result<Outcome, DnsError> {
        let nothing = |why: String| DnsError::Server { server: self.server.to_string(), why };
        let mut message = message::update(update).map_err(nothing)?;
        let mut verifier = None;
        if let Some(key) = &self.key {
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let signer = message::signer(key).map_err(nothing)?;
            verifier = message.finalize(&signer, now_s).map_err(|error| nothing(error.to_string()))?;
        }
        let addresses = server.addresses.as_ref().map_err(|why| nothing(why.clone()))?;
        let bytes = match wire::update(addresses, &message).await.map_err(|error| nothing(error.to_string()))? {
            Sent::Answered(bytes) => bytes,
            Sent::Unknown(error) => return Ok(Outcome::Unknown(error.to_string())),
        };
        let Ok(answer) = Message::from_vec(&bytes) else {
            return Ok(Outcome::Unknown("it answers with something that is no DNS message".to_owned()));
        };
        let (rcode, tsig) = message::codes(&answer);
        let key = self.key.as_ref().map(|key| key.name.as_str());
        if let Some(rejected) = Rejected::from_codes(&self.server.to_string(), &self.zone, key, rcode, tsig) {
            return Ok(Outcome::Rejected(rejected));
        }
        // Anybody on the way could have said yes.
        match verifier.map(|mut verifier| verifier.verify(&bytes)) {
            None | Some(Ok(_)) => Ok(Outcome::Done),
            Some(Err(error)) => Ok(Outcome::Unknown(format!("its answer is not signed as it should be: {error}"))),
        }
    }

    async fn ask(&self, server: &Server, name: &str) -> Result<Records, String> {
        server.records(Kind::Authoritative, name).await.map(|(_, records)| records)
    }
}
