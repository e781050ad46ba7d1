package unstale

import (
	"encoding/json"
	"time"
)

// Status is what is known of a client's connection. As JSON it has the names that it has in every language.
type Status struct {
	// State is "connecting" (never connected so far), "live" (connected, and every cache proved fresh), "degraded" (entries
	// are served by their age) or "closed".
	State string `json:"state"`
	// Reason says why, in words; empty when live.
	Reason string `json:"reason"`
	// Transport is how messages travel: "memory", "mqtt", "mqtts", "ws", "wss".
	Transport string `json:"transport"`
	// URL is the broker, without secrets.
	URL string `json:"url"`
	// ClientID is the MQTT client id.
	ClientID string `json:"client_id"`
	// Src is this client's publisher stream, the first part of its tokens.
	Src string `json:"src"`
	// StalenessBound in force.
	StalenessBound time.Duration `json:"-"`
	// Caches that are open.
	Caches uint64 `json:"caches"`
	// Connects counts the connections made so far.
	Connects uint64 `json:"connects"`
	// Unsent counts the messages that the broker has not acknowledged yet.
	Unsent uint64 `json:"unsent"`
	// EventsDropped counts events that no listener saw because too many waited for a slow one.
	EventsDropped uint64 `json:"events_dropped"`
	// OutboxDirError says why what is unsent would not survive this process, if OutboxDir is given and cannot be written;
	// else empty, and null as JSON.
	OutboxDirError string `json:"-"`
}

type plainStatus Status

type wireStatus struct {
	plainStatus
	StalenessBoundMS int64   `json:"staleness_bound_ms"`
	OutboxDirError   *string `json:"outbox_dir_error"`
}

// MarshalJSON writes the names of the core; the bound in milliseconds.
func (s Status) MarshalJSON() ([]byte, error) {
	wire := wireStatus{plainStatus(s), s.StalenessBound.Milliseconds(), nil}
	if s.OutboxDirError != "" {
		wire.OutboxDirError = &s.OutboxDirError
	}
	return json.Marshal(wire)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Status) UnmarshalJSON(text []byte) error {
	var wire wireStatus
	if err := json.Unmarshal(text, &wire); err != nil {
		return err
	}
	*s = Status(wire.plainStatus)
	s.StalenessBound = time.Duration(wire.StalenessBoundMS) * time.Millisecond
	if wire.OutboxDirError != nil {
		s.OutboxDirError = *wire.OutboxDirError
	}
	return nil
}

// Stats are a cache's counters since it was opened. As JSON they have the names that they have in every language.
type Stats struct {
	// Entries held now, expired ones that were not replaced yet included.
	Entries uint64 `json:"entries"`
	// Hits counts reads served from the cache, Misses those that found nothing to serve.
	Hits   uint64 `json:"hits"`
	Misses uint64 `json:"misses"`
	// Loads counts loads led here, LoadFailures those of them that failed or were given up.
	Loads        uint64 `json:"loads"`
	LoadFailures uint64 `json:"load_failures"`
	// Joins counts reads that waited for another caller's load.
	Joins uint64 `json:"joins"`
	// OpenLoads is how many loads and leases are open now.
	OpenLoads uint64 `json:"open_loads"`
	// Sets counts values stored by Set or Update.
	Sets uint64 `json:"sets"`
	// Fenced counts values refused: invalidated while they were loaded, older than the bound, or of a lower version.
	Fenced uint64 `json:"fenced"`
	// Evictions counts entries that left for want of room.
	Evictions uint64 `json:"evictions"`
	// InvalidationsLocal counts calls here that invalidated something, InvalidationsRemote messages of others.
	InvalidationsLocal  uint64 `json:"invalidations_local"`
	InvalidationsRemote uint64 `json:"invalidations_remote"`
	// Plain counts messages that were a plain key, Own this client's that came back, Empty those without a payload,
	// Malformed those that could not be read.
	Plain     uint64 `json:"plain"`
	Own       uint64 `json:"own"`
	Empty     uint64 `json:"empty"`
	Malformed uint64 `json:"malformed"`
	// Refused counts, by reason, messages that were not believed: "unsigned", "unknown_key", "bad_signature", "replayed".
	Refused map[string]uint64 `json:"refused"`
	// Doubts counts, by reason, how often doubt opened a new epoch.
	Doubts map[string]uint64 `json:"doubts"`
	// Epoch is the current one.
	Epoch uint64 `json:"epoch"`
}
