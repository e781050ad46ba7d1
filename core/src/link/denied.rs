//! AWS IoT Core ends the connection of a client that does what its policy does not allow, mostly without a word on what
//! that was ("AWS IoT Core policy actions"). What the client was doing tells.

use super::session::{Phase, Session};
use crate::error::{Error, ErrorKind};

/// Losses before the first probe's return that in a row make a policy certain enough for a back-off of minutes.
pub(super) const IN_A_ROW: u32 = 2;

impl Session {
    /// The error for a connection that AWS IoT Core ended, most likely over its policy: which action on which resource.
    pub(super) fn denied(&self, error: &Error) -> Option<Error> {
        if !self.shared.is_aws || !matches!(error.kind(), ErrorKind::Auth | ErrorKind::Connect) {
            return None;
        }
        let config = &self.shared.config;
        let silent = error.kind() == ErrorKind::Connect;
        let needs = match self.phase {
            Phase::Connecting if !silent => format!("`iot:Connect` on `client/{}`", self.shared.client_id),
            Phase::Subscribing(_) => format!(
                "`iot:Subscribe` on `topicfilter/{topic}`, `topicfilter/{topic}/*`, and `iot:Receive` on `topic/` of the same",
                topic = config.topic
            ),
            Phase::Up if !silent || !self.proved => format!(
                "`iot:Publish` on `topic/{topic}` and `topic/{topic}/*`, for example `topic/{}`",
                self.probe_topic,
                topic = config.topic
            ),
            _ => return None,
        };
        Some(Error::new(
            ErrorKind::Auth,
            format!(
                "{}; the policy of this client's identity must allow {needs}; a change of it takes up to 8 minutes to be seen",
                error.message()
            ),
        ))
    }
}
