package main

import (
	"context"
	"encoding/json"
	"time"

	unstale "github.com/unstale/unstale/bindings-c/go"
)

// request is a command with all fields that any command has.
type request struct {
	Cmd       string         `json:"cmd"`
	ID        string         `json:"id"`
	NS        string         `json:"ns"`
	URL       string         `json:"url"`
	Options   map[string]any `json:"options"`
	Key       string         `json:"key"`
	Value     *string        `json:"value"`
	Fail      *string        `json:"fail"`
	Keys      keys           `json:"keys"`
	Prefix    string         `json:"prefix"`
	Token     string         `json:"token"`
	TimeoutMS int64          `json:"timeout_ms"`

	TTLMS     *int64   `json:"ttl_ms"`
	Tags      []string `json:"tags"`
	DependsOn []string `json:"depends_on"`
	Version   *uint64  `json:"version"`
	Lease     *string  `json:"lease"`
}

// keys are written [["a", 1], ["b", null]].
type keys []unstale.KeyVersion

func (k *keys) UnmarshalJSON(text []byte) error {
	var pairs [][2]json.RawMessage
	if err := json.Unmarshal(text, &pairs); err != nil {
		return err
	}
	*k = make(keys, len(pairs))
	for i, pair := range pairs {
		if err := json.Unmarshal(pair[0], &(*k)[i].Key); err != nil {
			return err
		}
		if err := json.Unmarshal(pair[1], &(*k)[i].Version); err != nil {
			return err
		}
	}
	return nil
}

func (r *request) timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Duration(r.TimeoutMS)*time.Millisecond)
}

func (d *driver) options(r *request) ([]unstale.SetOption, error) {
	var options []unstale.SetOption
	if r.TTLMS != nil {
		options = append(options, unstale.WithTTL(time.Duration(*r.TTLMS)*time.Millisecond))
	}
	if len(r.Tags) > 0 {
		options = append(options, unstale.WithTags(r.Tags...))
	}
	if len(r.DependsOn) > 0 {
		options = append(options, unstale.WithDependsOn(r.DependsOn...))
	}
	if r.Version != nil {
		options = append(options, unstale.WithVersion(*r.Version))
	}
	if r.Lease != nil {
		lease := d.leases[*r.Lease]
		if lease == nil {
			return nil, mistake("no such lease")
		}
		options = append(options, unstale.WithLease(lease))
	}
	return options, nil
}
