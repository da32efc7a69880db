package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "example.org/onward-notifier/gen/notifierv1"
)

// Limits are the bounds of the process.
type Limits struct {
	BatchMax      int           // deliveries in one call; more: the call is refused
	CallsMax      int           // calls at a time, told to the caller
	SendsMax      int           // sends of one call at a time; further deliveries wait their turn
	WaitingMax    int           // deliveries waiting or being sent; more: RETRY
	RememberedMax int           // ids that were sent; beyond it the oldest are forgotten
	Send          time.Duration // one send; longer: its context ends
}

var defaultLimits = Limits{
	BatchMax:      1_000,
	CallsMax:      16,
	SendsMax:      16,
	WaitingMax:    20_000,
	RememberedMax: 200_000,
	Send:          30 * time.Second,
}

// Send is what a channel does with one delivery.
type Send func(context.Context, *pb.Delivery) (*pb.Result, error)

// Deliveries answers once for each delivery of a batch, in time. It knows deliveries, results and time
// limits, and neither gRPC nor a channel's provider.
//
//   - What has expired is EXPIRED, what is for another channel REJECTED_MESSAGE; neither is sent.
//   - When ctx ends, what has begun is UNKNOWN and runs on; what has not is RETRY and never begins.
//   - One id is sent once: a repeat waits for the one under way, or is told what became of it. The
//     memory of that is bounded, and lost at a restart.
//   - An error of send: UNKNOWN, since it may have sent. Its words are not logged, they may quote a
//     message.
type Deliveries struct {
	schemes map[string]bool
	send    Send
	limits  Limits
	sent    io.Writer // gets a line of JSON for each call of send; nil but in conformance tests
	working sync.WaitGroup

	mu         sync.Mutex // of all below
	underWay   map[string]*sending
	remembered map[string]*pb.Result
	ids        []string // of remembered: a ring, in the order in which they were sent
	oldest     int
}

// NewDeliveries makes one for these channels.
func NewDeliveries(channels []*pb.Channel, send Send, limits Limits, sent io.Writer) *Deliveries {
	schemes := map[string]bool{}
	for _, channel := range channels {
		schemes[channel.Scheme] = true
	}
	return &Deliveries{
		schemes: schemes, send: send, limits: limits, sent: sent,
		underWay: map[string]*sending{}, remembered: map[string]*pb.Result{},
	}
}

const (
	waiting int32 = iota
	begun
	withdrawn
)

// sending is one delivery id under way. Its result may be read once done is closed.
type sending struct {
	delivery *pb.Delivery
	state    atomic.Int32
	done     chan struct{}
	result   *pb.Result
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func ended(outcome pb.Result_Outcome, detail string) *sending {
	return &sending{done: closed, result: &pb.Result{Outcome: outcome, Detail: detail}}
}

// Answer returns the results, in the order of the batch.
func (d *Deliveries) Answer(ctx context.Context, batch []*pb.Delivery) []*pb.Result {
	all, own := d.take(batch)
	d.work(own)
	inTime := true
	for _, one := range all {
		if inTime {
			select {
			case <-one.done:
			case <-ctx.Done():
				inTime = false
			}
		}
	}
	if !inTime {
		for _, one := range own {
			if one.state.CompareAndSwap(waiting, withdrawn) {
				detail := "its turn did not come within the deadline"
				d.end(one, &pb.Result{Outcome: pb.Result_RETRY, Detail: detail})
			}
		}
	}
	results := make([]*pb.Result, len(batch))
	for number, one := range all {
		results[number] = one.resultFor(batch[number].DeliveryId)
	}
	return results
}

// Finish waits until nothing is being sent, or for grace.
func (d *Deliveries) Finish(grace time.Duration) {
	idle := make(chan struct{})
	go func() { d.working.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-time.After(grace):
	}
}

// take finds or makes what stands for each delivery; own is what this call is to send.
func (d *Deliveries) take(batch []*pb.Delivery) (all, own []*sending) {
	now := time.Now()
	all, own = make([]*sending, len(batch)), make([]*sending, 0, len(batch))
	d.mu.Lock()
	defer d.mu.Unlock()
	for number, delivery := range batch {
		id := delivery.DeliveryId
		scheme, _, found := strings.Cut(delivery.Endpoint, ":")
		result := d.remembered[id]
		switch {
		case id == "":
			all[number] = ended(pb.Result_REJECTED_MESSAGE, "no delivery_id")
		case !found || !d.schemes[strings.ToLower(scheme)]:
			all[number] = ended(pb.Result_REJECTED_MESSAGE, "not a channel of this plugin")
		case result != nil:
			all[number] = &sending{done: closed, result: result}
		case d.underWay[id] != nil:
			all[number] = d.underWay[id]
		case hasExpired(delivery, now):
			all[number] = ended(pb.Result_EXPIRED, "")
		case len(d.underWay) >= d.limits.WaitingMax:
			all[number] = ended(pb.Result_RETRY, "too many deliveries under way")
		default:
			one := &sending{delivery: delivery, done: make(chan struct{})}
			all[number] = one
			own = append(own, one)
			d.underWay[id] = one
		}
	}
	return all, own
}

// work sends, some at a time. It goes on when the call has ended; what was withdrawn is passed over.
func (d *Deliveries) work(own []*sending) {
	var next atomic.Int32
	for range min(len(own), d.limits.SendsMax) {
		d.working.Add(1)
		go func() {
			defer d.working.Done()
			for number := next.Add(1) - 1; int(number) < len(own); number = next.Add(1) - 1 {
				if one := own[number]; one.state.CompareAndSwap(waiting, begun) {
					d.end(one, d.try(one.delivery))
				}
			}
		}()
	}
}

func (d *Deliveries) try(delivery *pb.Delivery) (result *pb.Result) {
	if hasExpired(delivery, time.Now()) {
		return &pb.Result{Outcome: pb.Result_EXPIRED}
	}
	d.note(delivery)
	defer func() {
		if recover() != nil { // whatever goes wrong costs one delivery
			slog.Error("send panicked", "delivery", delivery.DeliveryId)
			result = &pb.Result{Outcome: pb.Result_UNKNOWN, Detail: "send panicked"}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), d.limits.Send)
	defer cancel()
	result, err := d.send(ctx, delivery)
	if err != nil || result == nil {
		slog.Warn("send failed", "delivery", delivery.DeliveryId)
		return &pb.Result{Outcome: pb.Result_UNKNOWN, Detail: "send failed"}
	}
	return result
}

func (d *Deliveries) note(delivery *pb.Delivery) {
	if d.sent == nil {
		return
	}
	line, _ := json.Marshal(map[string]string{
		"delivery_id": delivery.DeliveryId, "endpoint": delivery.Endpoint,
	})
	if _, err := d.sent.Write(append(line, '\n')); err != nil {
		slog.Error("the log of sends cannot be written", "error", err)
	}
}

// end makes a result known, and remembers it if it was sent.
func (d *Deliveries) end(one *sending, result *pb.Result) {
	id := one.delivery.DeliveryId
	one.result = result
	d.mu.Lock()
	delete(d.underWay, id)
	if result.Outcome == pb.Result_ACCEPTED || result.Outcome == pb.Result_DELIVERED {
		if len(d.ids) < d.limits.RememberedMax {
			d.ids = append(d.ids, id)
		} else {
			delete(d.remembered, d.ids[d.oldest])
			d.ids[d.oldest] = id
			d.oldest = (d.oldest + 1) % len(d.ids)
		}
		d.remembered[id] = result
	}
	d.mu.Unlock()
	close(one.done)
}

// resultFor is a copy under this id: a repeat in the batch shares the original.
func (s *sending) resultFor(id string) *pb.Result {
	select {
	case <-s.done:
		r := s.result
		return &pb.Result{
			DeliveryId: id, Outcome: r.Outcome, RetryAfter: r.RetryAfter, GoneSince: r.GoneSince,
			ProviderId: r.ProviderId, Detail: r.Detail,
		}
	default:
		detail := "no answer within the deadline"
		return &pb.Result{DeliveryId: id, Outcome: pb.Result_UNKNOWN, Detail: detail}
	}
}

func hasExpired(delivery *pb.Delivery, now time.Time) bool {
	at := delivery.ExpiresAt
	return at != nil && (at.Seconds < now.Unix() ||
		at.Seconds == now.Unix() && int(at.Nanos) <= now.Nanosecond())
}
