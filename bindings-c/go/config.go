package unstale

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Config holds the options of a client. The zero value of a field means "not given": then the URL's query decides, then
// the environment (UNSTALE_URL, UNSTALE_STALENESS_BOUND, …), then the default.
type Config struct {
	// URL says where the broker is: mqtt://, mqtts://, ws://, wss://, awsiot://endpoint, or memory://name inside this process.
	// Without any, nothing leaves this process. May hold user, password and options ("mqtt://host?staleness_bound=10s").
	URL string
	// App is this service's name, with which its client id begins: 1 to 32 of A-Z a-z 0-9 _ -. Default "unstale".
	App string
	// Topic is the root of the topics. All that share a cache share it. Default "cache/invalidate".
	Topic string
	// StalenessBound: no read is staler than this, whatever happens. 500 ms to 1 h, default 30 s.
	StalenessBound time.Duration
	// ConnectTimeout limits Connect, and each attempt to reconnect. 1 ms to 10 min, default 5 s.
	ConnectTimeout time.Duration
	// Lazy: Connect returns before the broker answers; the client keeps trying.
	Lazy bool
	// KeepAlive is MQTT's. Whole seconds, 5 s to 20 min, default 30 s.
	KeepAlive time.Duration
	// OutboxLimit is how many operations may wait for the broker before they are collapsed to coarser ones. Default 10,000.
	OutboxLimit int
	// OutboxDir is a folder, made if missing, in which invalidations wait that the broker has not taken yet, so that they
	// survive this process: the next start with this folder sends them. Processes may share one; one per broker. Unix only.
	OutboxDir string
	// MaxPublishRate is how many messages are sent a second at most, up to 1,000,000. Default: no limit.
	MaxPublishRate int
	// Reordering says that the broker may reorder one publisher's messages.
	Reordering bool
	// TombstoneTTL is how long an invalidated version is remembered. At least 1 s, default 5 min.
	TombstoneTTL time.Duration
	// ClientID is the MQTT client id, 1 to 128 bytes; unique per broker. Default: made from App.
	ClientID string
	// MQTTVersion is "5" (the default) or "3.1.1".
	MQTTVersion string
	// Username and Password for the broker.
	Username, Password string
	// SigningKey holds a key, id:secret (the secret from "openssl rand -hex 32"), or several with commas between them. The
	// first signs what this client publishes; what it receives must be signed with one of them, or is refused and counted.
	SigningKey string
	// RequireSignatures says whether what is not signed is refused; nil means the default, true. False while keys are
	// being introduced.
	RequireSignatures *bool
	// TLS, for mqtts://, wss:// and awsiot://. The system's authorities are trusted unless CAFile is given.
	TLS TLSConfig
	// Options holds further options, by their names in the reference ("lazy": false, "aws": map[string]any{"profile": "p"}). What Go knows under a name of a
	// field is not given here as well. Values are what JSON can hold; a duration is a time.Duration or a text ("30s").
	Options map[string]any
}

// TLSConfig holds PEM files, and the protocols to offer by ALPN.
type TLSConfig struct {
	CAFile, CertFile, KeyFile string
	ALPN                      []string
}

// CacheConfig holds the options of a cache. The zero value of a field means the default.
type CacheConfig struct {
	// TTL is how long an entry lives at most. 1 ms to ten years, default 5 min.
	TTL time.Duration
	// TTLJitter: lives end early by up to this share, so that entries loaded together do not expire together.
	// 0 to 1; nil means the default, 0.1.
	TTLJitter *float64
	// MaxEntries is how many entries are held at most. Default 10,000.
	MaxEntries int
	// NegativeTTL is how long ErrNotFound is remembered. Default: not at all.
	NegativeTTL time.Duration
	// LoadTimeout is how long GetOrLoad waits for the load of another caller. Default: as long as the context allows.
	LoadTimeout time.Duration
	// Options: see [Config.Options].
	Options map[string]any
}

func (c Config) json() (string, error) {
	o := options{}
	o.text("url", c.URL)
	o.text("app", c.App)
	o.text("topic", c.Topic)
	o.duration("staleness_bound", c.StalenessBound)
	o.duration("connect_timeout", c.ConnectTimeout)
	o.flag("lazy", c.Lazy)
	o.duration("keep_alive", c.KeepAlive)
	o.number("outbox_limit", c.OutboxLimit)
	o.text("outbox_dir", c.OutboxDir)
	o.number("max_publish_rate", c.MaxPublishRate)
	o.flag("reordering", c.Reordering)
	o.duration("tombstone_ttl", c.TombstoneTTL)
	o.text("client_id", c.ClientID)
	o.text("mqtt_version", c.MQTTVersion)
	o.text("username", c.Username)
	o.text("password", c.Password)
	o.text("signing_key", c.SigningKey)
	if c.RequireSignatures != nil {
		o["require_signatures"] = *c.RequireSignatures
	}
	tls := options{}
	tls.text("ca_file", c.TLS.CAFile)
	tls.text("cert_file", c.TLS.CertFile)
	tls.text("key_file", c.TLS.KeyFile)
	if len(c.TLS.ALPN) > 0 {
		tls["alpn"] = c.TLS.ALPN
	}
	if len(tls) > 0 {
		o["tls"] = tls
	}
	return o.merged(c.Options)
}

func (c CacheConfig) json() (string, error) {
	o := options{}
	o.duration("ttl", c.TTL)
	if c.TTLJitter != nil {
		o["ttl_jitter"] = *c.TTLJitter
	}
	o.number("max_entries", c.MaxEntries)
	o.duration("negative_ttl", c.NegativeTTL)
	o.duration("load_timeout", c.LoadTimeout)
	return o.merged(c.Options)
}

// options are on their way to the core, which alone knows what is valid. So only what is not given is left out.
type options map[string]any

func (o options) text(name, value string) {
	if value != "" {
		o[name] = value
	}
}

func (o options) duration(name string, value time.Duration) {
	if value != 0 {
		o[name] = value
	}
}

func (o options) number(name string, value int) {
	if value != 0 {
		o[name] = value
	}
}

func (o options) flag(name string, value bool) {
	if value {
		o[name] = true
	}
}

// merged is the JSON of both. A name that both have is one option too many.
func (o options) merged(more map[string]any) (string, error) {
	for name, value := range more {
		if _, twice := o[name]; twice {
			return "", &Error{KindConfig, fmt.Sprintf("option `%s` is given twice, as a field and in Options; give it once", name)}
		}
		o[name] = value
	}
	for name, value := range o {
		plain, err := jsonValue(name, value)
		if err != nil {
			return "", err
		}
		o[name] = plain
	}
	text, err := json.Marshal(map[string]any(o))
	if err != nil {
		return "", &Error{KindConfig, fmt.Sprintf("Options cannot be written as JSON: %v", err)}
	}
	return string(text), nil
}

// jsonValue puts durations into words and refuses text that is not UTF-8, which encoding/json would change silently.
func jsonValue(name string, value any) (any, error) {
	switch v := value.(type) {
	case time.Duration:
		return durationText(v), nil
	case string:
		if !utf8.ValidString(v) || !utf8.ValidString(name) {
			return nil, &Error{KindConfig, fmt.Sprintf("option `%s` is not UTF-8", strings.ToValidUTF8(name, "\uFFFD"))}
		}
	case []string:
		for _, item := range v {
			if _, err := jsonValue(name, item); err != nil {
				return nil, err
			}
		}
	case options:
		return jsonValue(name, map[string]any(v))
	case map[string]any:
		nested := make(map[string]any, len(v))
		for inner, value := range v {
			plain, err := jsonValue(name+"."+inner, value)
			if err != nil {
				return nil, err
			}
			nested[inner] = plain
		}
		return nested, nil
	}
	return value, nil
}

// durationText is d as the core's parser reads it, exactly. A negative one it refuses, so that is left as Go writes it.
func durationText(d time.Duration) string {
	switch {
	case d < 0:
		return d.String()
	case d%time.Second == 0:
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	case d%time.Millisecond == 0:
		return strconv.FormatInt(int64(d/time.Millisecond), 10) + "ms"
	default:
		return fmt.Sprintf("%d.%03dus", d/time.Microsecond, d%time.Microsecond)
	}
}

// millis is d in whole milliseconds, rounded up: a wait is never cut short, and 1 ns is not 0.
func millis(d time.Duration) uint64 {
	return (uint64(d) + uint64(time.Millisecond-1)) / uint64(time.Millisecond)
}
