//! The names in the report. What each stands for is in README.md; `tests/broken_rules.rs` checks that all are there, and all provoked.

macro_rules! names {
    ($(#[$doc:meta])* $kind:ident { $($variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind { $(#[doc = $name] $variant,)* }

        impl $kind {
            /// All of them.
            pub const ALL: &[$kind] = &[$($kind::$variant,)*];

            /// As the report has it.
            pub fn name(self) -> &'static str {
                match self { $($kind::$variant => $name,)* }
            }
        }
    };
}

names! {
    /// What a client can break.
    Rule {
        PayloadSize = "payload_size",
        TopicSize = "topic_size",
        TopicSlashes = "topic_slashes",
        TopicName = "topic_name",
        TopicFilter = "topic_filter",
        ReservedTopic = "reserved_topic",
        FiltersPerSubscribe = "filters_per_subscribe",
        Subscriptions = "subscriptions",
        InboundRate = "inbound_rate",
        ThroughputIn = "throughput_in",
        UnacknowledgedIn = "unacknowledged_in",
        KeepAlive = "keep_alive",
        KeepAliveTimeout = "keep_alive_timeout",
        ConnectRate = "connect_rate",
        ClientId = "client_id",
        Qos2 = "qos_2",
        SubscriptionIdentifier = "subscription_identifier",
        TopicAlias = "topic_alias",
        BeforeConnack = "before_connack",
        WillTopic = "will_topic",
        UnauthorizedConnect = "unauthorized_connect",
        UnauthorizedWill = "unauthorized_will",
        UnauthorizedPublish = "unauthorized_publish",
        UnauthorizedSubscribe = "unauthorized_subscribe",
        NoSni = "no_sni",
        TlsHandshake = "tls_handshake",
        CustomAuthorizer = "custom_authorizer",
        Sigv4 = "sigv4",
        WebsocketPath = "websocket_path",
        WebsocketProtocol = "websocket_protocol",
        Malformed = "malformed",
        Protocol = "protocol",
    }
}

names! {
    /// Why a message did not reach a subscriber.
    Loss {
        OutboundRate = "outbound_rate",
        TooManyWaiting = "too_many_waiting",
        UnauthorizedReceive = "unauthorized_receive",
        Offline = "offline",
        SessionGone = "session_gone",
    }
}
